# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Linux has, each with its portable stand-in: the one place that asks which system this is.

====================  ==========================================  =====================================
wanted                Linux                                       elsewhere, or ``GPUIDX_PORTABLE=1``
====================  ==========================================  =====================================
memory without name   memfd, ``posix_fallocate``                  an unlinked file, written full of zeros
packets               ``SOCK_SEQPACKET``: whole or not at all     ``SOCK_STREAM`` (framed by `channel`)
end with the parent   ``prctl(PR_SET_PDEATHSIG, SIGKILL)``        the end of file on a channel alone
memory left           ``/proc/meminfo``, control groups           the machine's memory
out of memory         children are offered first                  nothing
CPU of a process      ``sched_setaffinity``                       cannot be chosen
====================  ==========================================  =====================================
"""

import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PRELOAD_VARIABLE = "GPUIDX_PRELOAD"
"""Environment variable with the modules that the forkserver loads, separated by commas."""

MAIN_VARIABLE = "GPUIDX_MAIN"
"""Environment variable with main's process number, for the forkserver."""

_PR_SET_PDEATHSIG = 1
_MEBIBYTE = 1 << 20


def portable() -> bool:
    """Whether to do without what only Linux has."""
    return sys.platform != "linux" or os.environ.get("GPUIDX_PORTABLE") == "1"


def open_memory(size: int) -> int:
    """Give the file descriptor of *size* bytes of zeros that have no name and are allocated.

    The kernel frees them with their last user.  Allocated here, so that a lack of memory is an error now
    and not a SIGBUS at the first write to a page.

    Raises
    ------
    OSError
        If there is not so much memory.
    """
    if portable():
        with tempfile.TemporaryFile(prefix="gpuidx-") as file:
            fd = os.dup(file.fileno())
    else:
        fd = os.memfd_create("gpuidx", os.MFD_CLOEXEC)
    try:
        if portable():
            _fill(fd, size)
        else:
            os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        raise
    return fd


def _fill(fd: int, size: int) -> None:
    zeros = memoryview(bytes(_MEBIBYTE))
    place = 0
    while place < size:
        place += os.pwrite(fd, zeros[: size - place], place)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Give two connected sockets: packets where there are, else a byte stream."""
    kind = socket.SOCK_STREAM if portable() else socket.SOCK_SEQPACKET
    return socket.socketpair(socket.AF_UNIX, kind)


def end_with_parent() -> None:
    """Ask the kernel for a SIGKILL when the parent's thread that started this process ends."""
    if portable():
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def forbid_core_dump() -> None:
    """Write no core file at a crash: it would hold the whole ring of messages."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def offer_to_oom_killer() -> None:
    """Let the kernel end this process before main when memory runs out; a worker can be replaced."""
    if not portable():
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def allow_open_files(wanted: int) -> int:
    """Raise the soft limit of open files towards *wanted*; gives the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return soft


def usable_cpus() -> list[int] | None:
    """Numbers of the CPUs that this process may use; None where processes cannot be pinned."""
    return None if portable() else sorted(os.sched_getaffinity(0))


def use_cpus(cpus: Sequence[int]) -> None:
    """Let this thread, and those that it starts, use only these CPUs; all that it may, if there are none."""
    if cpus and not portable():
        with suppress(OSError):  # they were taken away since the start: better slow than not at all
            os.sched_setaffinity(0, cpus)


@contextmanager
def using_cpus(cpus: Sequence[int]) -> Iterator[None]:
    """Use only these CPUs until the end of the context."""
    before = usable_cpus() or ()
    use_cpus(cpus)
    try:
        yield
    finally:
        use_cpus(before)


def thread_count() -> int:
    """Give the number of threads of this process; 1 where it cannot be known."""
    if portable():
        return 1
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208  (names alone)
    return 1


def memory_available() -> int | None:
    """Bytes that can still be used by this process: the machine's and its control groups' room.

    None where it cannot be known.
    """
    if portable():
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError):
            return None
    rooms = [room for room in (_machine_room(Path("/proc/meminfo")), group_room()) if room is not None]
    return min(rooms, default=None)


def _machine_room(meminfo: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def group_room(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes up to the nearest memory limit of this process's control groups (v1 and v2), or None.

    Beyond that limit there is no error: the kernel kills.  File pages that can be dropped count as room.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    rooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, base = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "memory"
        else:
            continue
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if (room := _room_of(group, *names)) is not None:
                rooms.append(room)
            if group == base:
                break
    return min(rooms, default=None)


def _room_of(group: Path, limit_name: str, usage_name: str, droppable_name: str) -> int | None:
    try:
        limit = int((group / limit_name).read_text(encoding="ascii"))  # "max" is no number
        usage = int((group / usage_name).read_text(encoding="ascii"))
        stat = (group / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    droppable = dict(line.split() for line in stat.splitlines()).get(droppable_name, "0")
    return max(0, limit - usage + int(droppable))
