# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full, read-only or stalled: no message is lost, and the stream can be read.

Everybody can limit a file, and write to a pipe that nobody empties; root has real file systems as well.
"""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from asapo_check.setting import (
    GROUP,
    SMALL,
    STREAM,
    Run,
    acknowledged,
    last_line,
    read_ids,
    report,
    wait_for_acknowledged,
    what_is_wrong,
)
from gpuidx.simulation.asapo.server import StandIn

N_FRAME = 1000
LIMIT = 200_000
"""Bytes that the stream may have: some 500 chunks."""

STALL = 3.0
STREAM_ERROR = 5
ONE = ("--asapo-acks", "-j1")

OBEDIENT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
"""In front of a command of root: rights of files hold for it, too."""


def check(folder: Path) -> bool:
    """All of it."""
    folder.mkdir()
    good = [_limited(folder / "limited"), _locked(folder / "locked"), _pipe(folder / "pipe")]
    if os.geteuid() == 0:
        good += [_full(folder / "full"), _read_only(folder / "read-only"), _frozen(folder / "frozen")]
    else:
        print("real file systems, full, read-only and frozen: skipped, they can be mounted by root only")
    return all(good)


def _limited(folder: Path) -> bool:
    """The system lets the file have no more than LIMIT bytes; then there is room again."""

    def limit(run: Run) -> None:
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    return _ends_and_goes_on("file of limited size", folder, folder, limit, lambda: None)


def _full(folder: Path) -> bool:
    """A file system of LIMIT bytes, which is then made larger."""
    disk = folder / "disk"
    with _mounted(disk, "-t", "tmpfs", "-o", f"size={LIMIT}", "tmpfs"):
        return _ends_and_goes_on(
            "full disk", folder, disk, lambda run: None,
            lambda: _do("mount", "-o", "remount,size=100m", str(disk)),
        )  # fmt: skip


def _ends_and_goes_on(
    what: str, folder: Path, disk: Path, act: Callable[[Run], None], repair: Callable[[], None]
) -> bool:
    """A run ends when there is no room for a chunk; after *repair* the next one has the rest."""
    folder.mkdir(exist_ok=True)
    output = str(disk / "out.stream")
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        run = Run(folder, server, *ONE, output=output)
        wait_for_acknowledged(server, 1)
        act(run)
        first = run.wait()
        wrong = [] if first.code == STREAM_ERROR else [f"exit code {first.code}"]
        if acknowledged(server) != set(first.ids):
            wrong.append(f"{len(acknowledged(server))} acknowledged, {len(first.ids)} in the stream")
        given = server.group(STREAM, GROUP).arrived
        wrong += ["did not stop receiving"] if given >= N_FRAME else []
        repair()
        done = Run(folder, server, *ONE, "--resume", output=output).wait()
        wrong += done.wrong(range(1, N_FRAME + 1))
    said = last_line(first.log).replace(str(folder), "")
    row = f"exit {first.code} with {len(first.ids)} written, {given} received; {said!r}; resumed:"
    return report(what, wrong, row)


def _locked(folder: Path) -> bool:
    """A folder in which nothing may be made."""
    (folder / "locked").mkdir(parents=True, mode=0o500)
    prefix = OBEDIENT if os.geteuid() == 0 else ()
    return _takes_nothing("folder without the right to write", folder, folder / "locked", prefix)


def _read_only(folder: Path) -> bool:
    disk = folder / "disk"
    with _mounted(disk, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        return _takes_nothing("read-only disk", folder, disk)


def _takes_nothing(what: str, folder: Path, disk: Path, prefix: Sequence[str] = ()) -> bool:
    """A run that cannot make its output ends before a message is taken."""
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        done = Run(folder, server, *ONE, output=str(disk / "out.stream"), prefix=prefix).wait()
        wrong = [] if done.code == STREAM_ERROR else [f"exit code {done.code}"]
        if server.group(STREAM, GROUP).arrived:
            wrong.append("messages were taken")
    return report(what, wrong, f"exit {done.code}; {last_line(done.log).replace(str(folder), '')!r}")


def _pipe(folder: Path) -> bool:
    """The output is a pipe that nobody empties for a while."""
    folder.mkdir()
    pipe, copied, go = folder / "out.stream", folder / "copied.stream", threading.Event()
    os.mkfifo(pipe)

    def copy() -> None:
        with pipe.open("rb") as source, copied.open("wb") as target:
            go.wait()
            target.write(source.read())

    thread = threading.Thread(target=copy)
    thread.start()
    return _stalls("pipe that is not emptied", folder, pipe, lambda: None, go.set, copied, thread.join)


def _frozen(folder: Path) -> bool:
    """A file system on which every write waits."""
    folder.mkdir()
    image, disk = folder / "image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    _do("mkfs.ext4", "-q", str(image))
    with _mounted(disk, "-o", "loop", str(image)):
        frozen = threading.Event()

        def freeze() -> None:
            _do("fsfreeze", "--freeze", str(disk))
            frozen.set()

        def thaw() -> None:
            if frozen.is_set():
                frozen.clear()
                _do("fsfreeze", "--unfreeze", str(disk))

        output = disk / "out.stream"
        try:
            return _stalls("frozen disk", folder, output, freeze, thaw, output, lambda: None)
        finally:
            thaw()


def _stalls(
    what: str, folder: Path, output: Path, begin: Callable[[], None], end: Callable[[], None],
    written: Path, wait: Callable[[], None],
) -> bool:  # fmt: skip
    """Nothing is received while the output stalls, and all of it afterwards."""
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        run = Run(folder, server, *ONE, output=str(output))
        wait_for_acknowledged(server, 1)
        begin()
        given = -1
        while given != (given := server.group(STREAM, GROUP).arrived):
            time.sleep(STALL)
        told = len(acknowledged(server))
        end()
        done = run.wait(reads=False)
        wait()
        ids, _ = read_ids(written)
        wrong = what_is_wrong(ids, range(1, N_FRAME + 1))
        wrong += [] if done.code == 0 else [f"exit code {done.code}: {done.log}"]
        wrong += ["did not stop receiving"] if given >= N_FRAME else []
        if acknowledged(server) != set(ids):
            wrong.append(f"{len(acknowledged(server))} acknowledged")
    row = f"stopped at {given} received, {told} acknowledged; after {STALL:g} s or more went on:"
    return report(what, wrong, row)


@contextmanager
def _mounted(place: Path, *what: str) -> Iterator[None]:
    place.mkdir(parents=True)
    _do("mount", *what, str(place))
    try:
        yield
    finally:
        _do("umount", str(place))


def _do(*words: str) -> None:
    subprocess.run(words, check=True)
