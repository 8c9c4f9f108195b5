# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault in mid-stream, and many at random: no message is lost or doubled."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from asapo_check.setting import GROUP, NO_DATA, SMALL, STREAM, Run, acknowledged, last_line, report
from gpuidx.simulation.asapo.faults import Fault, Kind
from gpuidx.simulation.asapo.server import StandIn

N_FRAME = 40
SPARED = 10
"""Requests before the fault."""

MOST_LOST = 3
"""Times that the same message may be lost with an answer, of which the client library says nothing."""

STATES = (401, 404, 500, 503)
ANSWERS = (Kind.DROP, Kind.LOSE, Kind.HANG, Kind.CUT, Kind.STALL, Kind.SLOW, Kind.CLOSE, Kind.GARBAGE)
TEXTS = (*ANSWERS, Kind.BAD_TEXT, Kind.BAD_TYPES)
CASES = {
    "next": TEXTS,
    "acknowledge": ANSWERS,
    "data": (*ANSWERS, Kind.EVICT),
    "nacks": (Kind.LOSE, Kind.HANG, Kind.GARBAGE, Kind.BAD_TYPES),
}
LAST_ASKED = ("nacks",)
"""Operations that are asked for at the end only, so none is spared."""

ACKS = "--asapo-acks"


def cases() -> list[Fault]:
    """Each fault, on each operation where it makes sense, two times each; and one message lost thrice."""
    found = []
    for operation, kinds in CASES.items():
        settings = {"on": frozenset({operation}), "skip": 0 if operation in LAST_ASKED else SPARED}
        found += [Fault(kind=kind, count=2 if kind != Kind.HANG else 1, **settings) for kind in kinds]
        found += [Fault(kind=Kind.STATUS, status=status, count=3, **settings) for status in STATES]
    lost = Fault(kind=Kind.LOSE, on=frozenset({"next"}), ids=frozenset({SPARED}), count=MOST_LOST)
    return [*found, lost]


class Watch(threading.Thread):
    """Measures the longest time without an acknowledgement in mid-stream."""

    def __init__(self, server: StandIn) -> None:
        super().__init__(daemon=True)
        self.server, self.longest, self.over = server, 0.0, threading.Event()

    def run(self) -> None:
        """Look, until it is over."""
        count, since = 0, time.monotonic()
        while not self.over.wait(0.02):
            now, n = time.monotonic(), len(acknowledged(self.server))
            if 0 < count < N_FRAME:
                self.longest = max(self.longest, now - since)
            if n != count:
                count, since = n, now


def run_with(
    folder: Path, faults: list[Fault], act: Callable[[StandIn], None] | None = None
) -> tuple[list[str], str, float]:
    """A run; what is wrong, its log, and the longest pause."""
    with StandIn(faults=faults) as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        server.group(STREAM, GROUP)
        watch = Watch(server)
        watch.start()
        run = Run(folder, server, ACKS, "-j1")
        if act:
            server.store.wait_until(lambda: len(acknowledged(server)) > SPARED // 2, NO_DATA)
            act(server)
        done = run.wait()
        watch.over.set()
        wrong = done.wrong(range(1, N_FRAME + 1))
        if acknowledged(server) != set(range(1, N_FRAME + 1)):
            wrong.append(f"only {len(acknowledged(server))} acknowledged")
        if act is None and not server.faults.struck:
            wrong.append("the fault did not strike")
        return wrong, done.log, watch.longest


def each_fault(folder: Path) -> bool:
    """Every fault by itself, and services that are down for a while."""
    good = True
    for number, fault in enumerate(cases()):
        wrong, _, pause = run_with(folder / str(number), [fault])
        status = str(fault.status) if fault.kind == Kind.STATUS else ""
        one = ", one message" if fault.ids else ""
        good &= report(f"{fault.kind} {status} on {'+'.join(fault.on)}{one}", wrong, f"pause {pause:5.1f} s ")
    for name, act in ACTIONS.items():
        wrong, _, pause = run_with(folder / name.replace(" ", "_"), [], act)
        good &= report(name, wrong, f"pause {pause:5.1f} s ")
    return all([good, *(ends(folder, status) for status in (401, 503))])


def _down(service: str) -> Callable[[StandIn], None]:
    def act(server: StandIn) -> None:
        server.down(service)  # type: ignore[arg-type]
        time.sleep(2)
        server.up(service)  # type: ignore[arg-type]

    return act


ACTIONS: dict[str, Callable[[StandIn], None]] = {
    "broker down for 2 s": _down("broker"),
    "data server down for 2 s": _down("data"),
    "discovery down for 2 s": _down("discovery"),
    "broker at another address": StandIn.move_broker,
}


def ends(folder: Path, status: int) -> bool:
    """A service that refuses for good ends the run, and the next one has the rest."""
    on = frozenset({"next", "acknowledge", "nacks"})
    with StandIn(faults=[Fault(kind=Kind.STATUS, status=status, on=on, skip=2 * SPARED)]) as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        first = Run(folder / f"ends{status}", server, ACKS, "-j1", "--no-data-timeout=12").wait()
        server.faults.clear()
        done = Run(folder / f"ends{status}", server, ACKS, "-j1", "--resume").wait()
        wrong = done.wrong(range(1, N_FRAME + 1)) + ([] if first.code == 3 else [f"exit code {first.code}"])
        row = f"ended after {first.seconds:.0f} s, exit {first.code}: {last_line(first.log)!r};"
        return report(f"status {status} for ever", wrong, row)


def at_random(folder: Path, seed: int) -> bool:
    """A run with many faults at random places."""
    draw = random.Random(seed)

    def fault(kind: Kind, on: str, probability: float, **more: int) -> Fault:
        return Fault(
            kind=kind,
            on=frozenset(on.split("+")),
            probability=probability,
            seed=draw.randrange(10**6),
            **more,
        )

    faults = [
        fault(Kind.LOSE, "next+acknowledge", 0.05),
        fault(draw.choice([Kind.GARBAGE, Kind.BAD_TEXT, Kind.BAD_TYPES]), "next", 0.03),
        fault(Kind.STATUS, "next+acknowledge+nacks+size", 0.04, status=draw.choice([500, 503, 404])),
        fault(Kind.CLOSE, "data+next", 0.1),
        fault(draw.choice([Kind.CUT, Kind.DROP, Kind.EVICT]), "data", 0.04),
        fault(
            draw.choice([Kind.HANG, Kind.STALL]), draw.choice(["next", "acknowledge", "data"]), 0.05, count=1
        ),
    ]
    begun = time.monotonic()
    wrong, log, pause = run_with(folder / str(seed), faults)
    restarts = log.count("ASAP::O reader 0 ended")
    row = f"{time.monotonic() - begun:5.1f} s, pause {pause:4.1f} s, {restarts} readers replaced "
    return report(f"random faults, seed {seed}", wrong, row)


def many(folder: Path, seed: int, count: int) -> bool:
    """Runs with random faults, from this seed on."""
    wrong = [seed + n for n in range(count) if not at_random(folder, seed + n)]
    print(f"{count - len(wrong)} of {count} runs without a fault of ours")
    return not wrong
