# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in a child: its body, found by name, and the port through which it gets tasks and answers."""

import faulthandler
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, NoReturn

from gpuidx.flow import platform
from gpuidx.flow.channel import ChildEnd, pack, unpack
from gpuidx.flow.slots import SharedTable
from gpuidx.flow.stop import SIGNALS

IDLE = -(2**63)
"""What stands in a child's row of the table while it is at no task; no serial."""

READY, ERROR = "ready", "error"
"""First items of the packets that are not answers."""

_MOST_TEXT = 8000


class MainGoneError(BaseException):
    """Main has ended; no `except Exception` of a body may keep the child alive."""


class Sealed:
    """Values that are unpickled in the child when asked for, so that a failure there can be reported."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    def open(self) -> tuple[Any, ...]:
        """Give the values."""
        return self._values

    def __reduce__(self) -> tuple[Any, ...]:
        return _Packed, (bytes(ForkingPickler.dumps(self._values)),)


class _Packed:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self) -> tuple[Any, ...]:
        values: tuple[Any, ...] = ForkingPickler.loads(self._data)
        return values


@dataclass(frozen=True, slots=True)
class Start:
    """What a child has to know.

    Attributes
    ----------
    body
        ``"package.module:function"``.
    number
        Of the child in its pool, also its row in the table.
    sealed
        The table, then the arguments of the body.
    debug
        Write core dumps, and say where Python was at a crash.
    cpus
        CPUs to use; all, if there are none.
    """

    body: str
    number: int
    sealed: Any
    debug: bool
    cpus: Sequence[int]


class Port:
    """A child's connection to main: tasks in, answers out.

    Attributes
    ----------
    number
        Of the child in its pool; its successor after a death has the same.
    counters
        The child's own row of int64, which main can read; kept over the death of a child.
    """

    def __init__(self, number: int, channel: ChildEnd, table: SharedTable, preload_notes: list[str]) -> None:
        self.number = number
        self._preload_notes = preload_notes
        self._channel = channel
        self._row = table.row(number)
        self.counters = self._row[1:]
        self._is_ready = False

    def ready(self) -> None:
        """Say that tasks can come; `tasks` does it too."""
        if not self._is_ready:
            self._is_ready = True
            self._send((READY, self._preload_notes))

    def fileno(self) -> int:
        """What to wait for, beside other things, before `poll` is called without waiting."""
        return self._channel.fileno()

    def tasks(self) -> Iterator[tuple[Any, ...]]:
        """Give one task after the other, as main gave them (lists have become tuples), until main ends.

        Each must be answered before the next is asked for.  Until it is, the shared table says that this
        child is at it, and a death of the child counts against it.
        """
        self.ready()
        while (packet := self._channel.receive()) is not None:
            for task in unpack(packet):
                self._row[0] = task[0]
                yield task
                if self._row[0] != IDLE:
                    raise RuntimeError(f"task {task[0]} was not answered")

    def poll(self, timeout: float | None) -> list[tuple[Any, ...]] | None:
        """Give the tasks that have come since the last call; None once main has ended.

        For a body that has many tasks under way, whose fate they all share (`children.Pool`): the table
        does not say which one it is at.

        Parameters
        ----------
        timeout
            s to wait for a task; None: without limit.
        """
        self.ready()
        packets = self._channel.poll(timeout)
        return None if packets is None else [task for packet in packets for task in unpack(packet)]

    def answer_all(self, answers: Iterable[tuple[Any, ...]]) -> None:
        """Answer several tasks, each by its serial and further values, in one packet."""
        self._send_all(list(answers))

    def answer(self, serial: int, *values: Any) -> None:
        """Answer the task *serial*: numbers, text, bytes, None, and lists of those.

        From here on the slot of the task belongs to main again.
        """
        self._send((serial, *values))
        self._row[0] = IDLE  # only now: a death in between costs nothing, the answer is read first

    def _send(self, item: tuple[Any, ...]) -> None:
        self._send_all([item])

    def _send_all(self, items: list[tuple[Any, ...]]) -> None:
        packet = pack(items)
        try:
            self._channel.send(packet)
        except ConnectionError as error:
            raise MainGoneError from error


def run_child(sock: socket.socket, start: Start) -> NoReturn:
    """First call in a child; never returns, so nothing that the forkserver has loaded runs at its exit."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # main alone hears them, and ends its children
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    code = 1
    channel = ChildEnd(sock)
    try:
        code = _run_body(channel, start)
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def _run_body(channel: ChildEnd, start: Start) -> int:
    platform.offer_to_oom_killer()
    platform.use_cpus(start.cpus)
    if start.debug:
        faulthandler.enable()
    else:
        platform.forbid_core_dump()
    try:
        preload_notes = _preload_notes()
        table, args = start.sealed.open()
        port = Port(start.number, channel, table, preload_notes)
        module, _, function = start.body.partition(":")
        getattr(importlib.import_module(module), function)(port, *args)
    except MainGoneError:
        return 0
    except BaseException as error:
        _report(channel, error)
        return 1
    return 0


def _report(channel: ChildEnd, error: BaseException) -> None:
    """Tell main why this child ends."""
    trace = "".join(traceback.format_exception(error))[-_MOST_TEXT:]
    with suppress(ConnectionError):
        channel.send(pack([(ERROR, type(error).__name__, str(error)[:_MOST_TEXT], trace)]))


def _preload_notes() -> list[str]:
    """Give what went wrong with the loading ahead; nothing else would say so.

    Without the lifeline this child would outlive main; it is loaded then, for this child alone.
    """
    lifeline = sys.modules.get("gpuidx.flow.lifeline")
    if lifeline is None:
        importlib.import_module("gpuidx.flow.lifeline")
        return ["the forkserver has loaded nothing; perhaps another part of the program started it"]
    notes: list[str] = lifeline.notes
    return notes
