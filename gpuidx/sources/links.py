# SPDX-License-Identifier: GPL-3.0-or-later
"""A ZeroMQ socket that tells when its connection comes and goes, and the check of an address.

What is sent and received is the business of `request`, `subscribe` and `pull`.
"""

import re
from collections.abc import Sequence
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from gpuidx.errors import OptionError, SourceError
from gpuidx.sources.wiring import PLAIN, Wiring

_TCP = re.compile(r"tcp://(?:[^\s*;]*;)?(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/*;\[\]]+):(\d{1,5})")
_IPC = re.compile(r"ipc://\S+")
_BOUND = re.compile(r"tcp://(\*|\[[0-9A-Fa-f:.%\w]+\]|[^\s:/;\[\]]+):(\d{1,5})")
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

ABSENT_AFTER = 3.0
"""Seconds without any connection before the user is told."""


def check_address(address: str, bind: bool = False) -> None:
    """See whether a socket could connect to this address, or be bound to it; nothing is opened.

    Raises
    ------
    OptionError
        If it is neither ``tcp://HOST:PORT`` nor ``ipc://PATH``.
    """
    tcp = (_BOUND if bind else _TCP).fullmatch(address)
    if not (_IPC.fullmatch(address) or (tcp and 0 < int(tcp[2]) < 65536)):
        what, host = ("bind to", "* or ADDRESS") if bind else ("connect to", "HOST")
        raise OptionError(
            f"--zmq-input={address} is not an address to {what}; expected tcp://{host}:PORT or ipc://PATH"
        )


class Link:
    """A socket for some addresses, with its monitor, both registered in a poller.

    libzmq connects, and connects anew, by itself and in the background; an absent server is no error.
    Keep-alive makes a host that vanished without a word (no FIN) a lost connection after some 25 s.

    Parameters
    ----------
    context, poller
        Of the thread that uses the link.
    kind
        ``zmq.REQ``, ``zmq.SUB`` or ``zmq.PULL``.
    addresses
        To connect to, or to be bound to.
    hwm
        Messages that libzmq holds for us, of each sender.
    wiring
        Whether to bind, and keys.

    Attributes
    ----------
    socket, monitor
        As registered in the poller.
    addresses
        As given.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        poller: zmq.Poller,
        kind: int,
        addresses: Sequence[str],
        hwm: int,
        wiring: Wiring = PLAIN,
    ) -> None:
        self.poller, self.addresses, self._n_connected = poller, tuple(addresses), 0
        try:
            self.socket = socket = context.socket(kind)
        except zmq.ZMQError as error:
            raise SourceError(f"{addresses[0]}: no socket can be opened: {error.strerror}") from error
        socket.linger, socket.rcvhwm = 0, hwm
        socket.reconnect_ivl, socket.reconnect_ivl_max = 100, 1000
        socket.tcp_keepalive, socket.tcp_keepalive_idle = 1, 10
        socket.tcp_keepalive_intvl, socket.tcp_keepalive_cnt = 5, 3
        wiring.secure(socket)
        self.monitor = socket.get_monitor_socket(_EVENTS)
        for address in addresses:
            try:
                socket.bind(address) if wiring.bind else socket.connect(address)
            except zmq.ZMQError as error:
                socket.disable_monitor()
                self.monitor.close(0)
                socket.close(0)
                what = "bind" if wiring.bind else "connect"
                raise SourceError(f"{address}: cannot {what}: {error.strerror}") from error
        poller.register(socket, zmq.POLLIN)
        poller.register(self.monitor, zmq.POLLIN)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as `look` has seen."""
        return self._n_connected > 0

    def listen(self, wanted: bool) -> None:
        """Have the poller tell of messages, or not: what cannot be read now would end every wait at once."""
        if wanted != (self.socket in self.poller):
            self.poller.modify(self.socket, zmq.POLLIN if wanted else 0)

    def look(self) -> bool:
        """Read what the monitor has to tell; whether a connection was lost since the last look."""
        lost = False
        while True:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                return lost
            made = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._n_connected = max(0, self._n_connected + (1 if made else -1))
            lost = lost or not made

    def close(self) -> None:
        """Close both sockets at once; what was not sent yet is thrown away."""
        self.listen(False)
        self.poller.unregister(self.monitor)
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
