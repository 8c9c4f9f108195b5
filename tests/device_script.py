# SPDX-License-Identifier: GPL-3.0-or-later
"""A device process that does what each task says; it loads nothing that takes time."""

import os
import signal

from gpuidx.errors import BackendError
from gpuidx.handover import FOUND, ON_CPU


def obey(port, broken=()):
    """Do what each task says; *broken*: numbers of processes that cannot start."""
    if port.number in broken:
        raise BackendError("no CUDA device (made up)")
    while (tasks := port.poll(None)) is not None:
        for serial, action in tasks:
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "refuse":
                port.answer(serial, ON_CPU, "made up")
            elif action != "keep":
                port.answer(serial, FOUND)
