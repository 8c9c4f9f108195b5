# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts that cannot go well: what is wrong is said at once, a stream without data is waited for."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asapo_check.setting import NO_DATA, PATIENCE, SMALL, Run, acknowledged, report
from gpuidx.simulation.asapo.server import StandIn

LIMIT = 3.0
"""s until a wrong start must have ended."""

REPEATS = 3
SILENCE = 2


@dataclass(frozen=True)
class Elsewhere:
    """A server as a run sees it, with something wrong."""

    endpoint: str
    beamtime: str = "beamtime"
    source: str = "detector"
    token: str = "stand-in"


def check(folder: Path) -> bool:
    """All of it."""
    folder.mkdir()
    return all([_wrong(folder), _without_data(folder), _waits(folder)])


def _wrong(folder: Path) -> bool:
    """Each is one line and the exit code 1, in less than LIMIT s."""
    good = True
    with StandIn() as server, _silent() as silent, _black_hole() as hole:
        SMALL.put(server, 1)
        cases = {
            "wrong token": Elsewhere(server.endpoint, token="wrong"),
            "wrong beamtime": Elsewhere(server.endpoint, beamtime="wrong"),
            "endpoint that refuses connections": Elsewhere(_closed()),
            "endpoint without a name": Elsewhere("no-such-host.invalid:8400"),
            "endpoint that stays silent": Elsewhere(silent),
            "endpoint that takes no connection": Elsewhere(hole),
        }
        for what, where in cases.items():
            good &= _is_said(folder, what, where)
    return good


def _is_said(folder: Path, what: str, where: Elsewhere) -> bool:
    walls, cpus, wrong, lines = [], [], [], []
    for _ in range(REPEATS):
        before = os.times()
        run = Run(folder, where, "--asapo-acks", output=f"{what}.stream")
        done = run.wait()
        after = os.times()
        walls.append(done.seconds)
        cpus.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        lines = done.log.splitlines()
        wrong += [] if done.code == 1 else [f"exit code {done.code}"]
        wrong += [] if len(lines) == 1 else [f"{len(lines)} lines: {lines}"]
        wrong += ["output made"] if run.output.exists() else []
    if max(walls) > LIMIT:
        wrong.append(f"took {max(walls):.1f} s")
    row = f"{min(walls):.2f} to {max(walls):.2f} s, {min(cpus):.2f} s of CPU; {lines[-1:]}"
    return report(what, wrong, row)


def _without_data(folder: Path) -> bool:
    """One warning, then the end after ``--no-data-timeout``."""
    good = True
    with StandIn() as server:
        SMALL.put(server, 1)
        for what, where, words in (
            ("stream without data", server, ["--asapo-stream=empty"]),
            ("source without data", Elsewhere(server.endpoint, source="nobody"), []),
        ):
            done = Run(folder, where, "--asapo-acks", f"--no-data-timeout={SILENCE}", *words).wait()
            said = [line for line in done.log.splitlines() if "has no data" in line]
            wrong = [] if len(said) == 1 else [f"{len(said)} warnings: {done.log}"]
            wrong += [] if done.code == 3 else [f"exit code {done.code}"]
            good &= report(what, wrong, f"{said[:1]}, exit {done.code} after {done.seconds:.1f} s ")
    return good


def _waits(folder: Path) -> bool:
    """With --asapo-wait-for-stream its first message may come much later."""
    with StandIn() as server:
        SMALL.put(server, 1, "another")
        words = ["--asapo-acks", f"--no-data-timeout={SILENCE}", "--asapo-wait-for-stream", "-j1"]
        run = Run(folder, server, *words, output="late.stream")
        _wait_for(lambda: "has no data" in run.log())
        time.sleep(2 * SILENCE)
        SMALL.put(server, 3)
        server.store.wait_until(lambda: len(acknowledged(server)) == 3, NO_DATA)
        done = run.wait()
        said = [line for line in done.log.splitlines() if "has no data" in line]
        wrong = done.wrong(range(1, 4)) + ([] if len(said) == 1 else [f"{len(said)} warnings"])
    return report(f"--asapo-wait-for-stream, first data {2 * SILENCE} s late", wrong, f"{said[:1]} ")


def _wait_for(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)


def _closed() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return _address(server)


@contextmanager
def _silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield _address(server)


@contextmanager
def _black_hole() -> Iterator[str]:
    """An address that answers no connection, like a host that is off: its queue is full already."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        filling = [socket.socket() for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        try:
            yield _address(server)
        finally:
            for one in filling:
                one.close()


def _address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"
