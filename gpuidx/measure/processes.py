# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system tells of running processes: CPU time, memory, files, threads.  Linux only."""

import os
import re
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")


class Footprint(NamedTuple):
    """What a process holds.

    Attributes
    ----------
    memory
        Anonymous memory that is resident, kB; without what is shared, such as the ring of slots.
    files, threads
        Open descriptors, and threads.
    """

    memory: int
    files: int
    threads: int


def children(pid: int) -> list[int]:
    """Processes that this one started; none if it has gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(found for child in children(pid) for found in descendants(child))]


def workers(pid: int) -> list[int]:
    """Worker processes of a run: children of its forkserver."""
    return [worker for child in children(pid) for worker in children(child)]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads; 0 if it has gone."""
    return _seconds(Path(f"/proc/{pid}/stat"))


def thread_seconds(pid: int) -> list[float]:
    """CPU time of each thread, the main thread first."""
    return [_seconds(stat) for stat in sorted(Path(f"/proc/{pid}/task").glob("*/stat"), key=_thread)]


def _thread(stat: Path) -> int:
    return int(stat.parent.name)


def _seconds(stat: Path) -> float:
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def anonymous_memory(pid: int) -> int:
    """RssAnon of a process, kB; 0 if it has gone."""
    return _status(pid, "RssAnon")


def footprint(pid: int) -> Footprint | None:
    """What a process holds; None if it has gone."""
    try:
        n_file = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    return Footprint(anonymous_memory(pid), n_file, _status(pid, "Threads"))


def _status(pid: int, name: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0
