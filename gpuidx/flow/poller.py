# SPDX-License-Identifier: GPL-3.0-or-later
"""What this folder needs of a `zmq.Poller`, so that children need not load ZeroMQ."""

from typing import Any, Protocol

READABLE, WRITABLE = 1, 2
"""zmq.POLLIN and zmq.POLLOUT."""


class Poller(Protocol):
    """A place to wait for many file descriptors; `zmq.Poller` is one."""

    def register(self, socket: Any, flags: int, /) -> Any:
        """Wait for *flags* of *socket* from now on; replaces earlier flags."""
        ...

    def unregister(self, socket: Any, /) -> Any:
        """Wait for it no longer."""
        ...
