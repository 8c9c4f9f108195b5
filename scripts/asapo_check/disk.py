# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full, read-only or stalled: no message is lost, and the stream can be read."""

import os
import resource
import threading
import time
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
    what_is_wrong,
)
from gpuidx.simulation.asapo.server import StandIn

N_FRAME = 1000
LIMIT = 200_000
"""Bytes that the stream may have: some 500 chunks."""

STALL = 3.0
STREAM_ERROR = 5


def check(folder: Path) -> bool:
    """All three."""
    return all([_full(folder / "full"), _read_only(folder / "read-only"), _stalled(folder / "stalled")])


def _full(folder: Path) -> bool:
    """The system lets the file have no more than LIMIT bytes; then there is room again."""
    folder.mkdir()
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        run = Run(folder, server, "--asapo-acks", "-j1")
        server.store.wait_until(lambda: len(acknowledged(server)) > 0, 60)
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        first = run.wait()
        wrong = [] if first.code == STREAM_ERROR else [f"exit code {first.code}"]
        if acknowledged(server) != set(first.ids):
            wrong.append(f"{len(acknowledged(server))} acknowledged, {len(first.ids)} in the stream")
        given = server.group(STREAM, GROUP).arrived
        done = Run(folder, server, "--asapo-acks", "--resume", "-j1").wait()
        wrong += done.wrong(range(1, N_FRAME + 1))
    row = f"exit {first.code} with {len(first.ids)} written, {given} received; {_said(first.log)!r}; resumed:"
    return report("full disk", wrong, row)


def _read_only(folder: Path) -> bool:
    """A folder in which nothing can be made; root may write everywhere, so one that is not there."""
    is_root = os.getuid() == 0
    folder.mkdir()
    output = "absent/out.stream" if is_root else "locked/out.stream"
    (folder / "locked").mkdir(mode=0o500)
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        done = Run(folder, server, "--asapo-acks", "-j1", output=output).wait()
        wrong = [] if done.code == STREAM_ERROR else [f"exit code {done.code}"]
        if server.group(STREAM, GROUP).arrived:
            wrong.append("messages were taken")
    what = "folder that is not there (root)" if is_root else "read-only folder"
    return report(what, wrong, f"exit {done.code}; {_said(done.log)!r}")


def _stalled(folder: Path) -> bool:
    """The output is a pipe that nobody empties for a while."""
    folder.mkdir()
    pipe = folder / "out.stream"
    os.mkfifo(pipe)
    copied = folder / "copied.stream"
    go = threading.Event()

    def copy() -> None:
        with pipe.open("rb") as source, copied.open("wb") as target:
            go.wait()
            target.write(source.read())

    thread = threading.Thread(target=copy)
    thread.start()
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        run = Run(folder, server, "--asapo-acks", "-j1")
        given = -1
        while given != (given := server.group(STREAM, GROUP).arrived) or not given:
            time.sleep(STALL)
        written = len(acknowledged(server))
        go.set()
        done = run.wait()
        thread.join()
        ids, _ = read_ids(copied)
        wrong = what_is_wrong(ids, range(1, N_FRAME + 1))
        wrong += [] if done.code == 0 else [f"exit code {done.code}"]
        wrong += ["did not stop receiving"] if given >= N_FRAME else []
    return report("stalled disk", wrong, f"stopped at {given} received, {written} acknowledged; went on:")


def _said(log: str) -> str:
    return last_line(log).replace(str(Path.cwd()), "")
