# SPDX-License-Identifier: GPL-3.0-or-later
"""What children do in the tests of this folder; they import it by name.

A task is ``(serial, action, ...)``.
"""

import os
import resource
import signal
import sys
import threading
from pathlib import Path

from gpuidx.flow import platform
from gpuidx.flow.child import Port


def obey(port, slots=None):
    """Do what each task says."""
    for serial, action, *values in port.tasks():
        ACTIONS[action](port, slots, serial, *values)


def echo(port, slots, serial, *values):
    port.answer(serial, *values)


def die(port, slots, serial, number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def leave(port, slots, serial, code):
    os._exit(code)


def blame(port, slots, serial, text):
    raise ValueError(text)


def write(port, slots, serial, slot, data):
    slots[slot][: len(data)] = data
    port.answer(serial, len(data))


def write_and_die(port, slots, serial, slot, data):
    slots[slot][: len(data)] = data
    os.kill(os.getpid(), signal.SIGKILL)


def babble(port, slots, serial, data):
    """Send what no child sends."""
    port._channel.send(data)
    signal.pause()


def half(port, slots, serial):
    """Answer, send the beginning of a packet, and die."""
    port.answer(serial)
    whole = port._channel._pieces(b"x" * 100_000)[0]
    port._channel._socket.send(whole[:1000] if port._channel._in_packets else whole[:3])
    os.kill(os.getpid(), signal.SIGKILL)


def big(port, slots, serial, size):
    port.answer(serial, b"b" * size)


def hold(port, slots, serial):
    signal.pause()


def loop(port, slots, serial):
    while True:
        pass


def freeze(port, slots, serial):
    os.kill(os.getpid(), signal.SIGSTOP)


def forget(port, slots, serial):
    """Give no answer."""


def count(port, slots, serial, column, by):
    port.counters[column] += by
    port.answer(serial)


def tell(port, slots, serial):
    """Say how this child was made."""
    lifeline = sys.modules.get("gpuidx.flow.lifeline")
    port.answer(
        serial,
        os.getpid(),
        list(lifeline.loaded) if lifeline else None,
        os.environ.get("OMP_NUM_THREADS", ""),
        platform.thread_count() + threading.active_count() - 1,
        [signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "pytest" in sys.modules,
        resource.getrlimit(resource.RLIMIT_CORE)[0],
        int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
    )


def cpus(port, slots, serial):
    port.answer(serial, *(platform.usable_cpus() or ()))


ACTIONS = {
    f.__name__: f
    for f in (
        echo,
        die,
        leave,
        blame,
        loop,
        freeze,
        write,
        write_and_die,
        babble,
        half,
        big,
        hold,
        forget,
        count,
        tell,
        cpus,
    )
}


def together(port, broken=()):
    """Work on all tasks together: "keep" is answered with the next "flush", with the number of the child."""
    if port.number in broken:
        raise ValueError(f"device {port.number} is broken")
    kept = []
    while (tasks := port.poll(None)) is not None:
        for serial, action, *_ in tasks:
            kept.append(serial)
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "flush":
                port.answer_all((serial, port.number) for serial in kept)
                kept.clear()


def never_ready(port, file):
    """Add a line to *file*, and fail."""
    with open(file, "a", encoding="utf-8") as out:  # noqa: PTH123
        out.write("start\n")
    raise ImportError("no module named 'seedee'")


def hang(port):
    """Never say ready."""
    signal.pause()


def ready_and_gone(port, file):
    """Say ready and return."""
    with open(file, "a", encoding="utf-8") as out:  # noqa: PTH123
        out.write("start\n")
    port.ready()


class Untouchable:
    """Pickles well, but cannot be unpickled."""

    def __reduce__(self):
        return _refuse, ()


def _refuse() -> Port:
    raise RuntimeError("this cannot be unpickled")
