# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking an event whether it has happened."""

from typing import Any

NOT_READY = 600
"""``cudaErrorNotReady``: what was asked for is still under way."""


def has_happened(event: Any) -> bool:
    """Whether all that was put on a stream before a CuPy event is done; never waits.

    Raises
    ------
    RuntimeError
        If the device has failed; CuPy's own `Event.done` takes that for "not yet".
    """
    from cupy.cuda import runtime

    status = runtime.eventQuery(event.ptr)
    if status not in (0, NOT_READY):
        event.synchronize()  # raises what the status means
    return bool(status == 0)
