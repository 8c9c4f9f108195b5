# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of gpuidx at random moments; with --resume every message is in the stream once."""

import random
from pathlib import Path

from asapo_check.crystfel import read_by_crystfel
from asapo_check.setting import GROUP, SMALL, STREAM, Run, acknowledged, report, wait_for_acknowledged
from gpuidx.simulation.asapo.server import StandIn

N_FRAME = 4000


def check(folder: Path, n_kill: int, seed: int) -> bool:
    """*n_kill* kills in one stream, each after a random number of further messages."""
    draw = random.Random(seed)
    written = cut = 0
    with StandIn() as server:
        SMALL.put(server, N_FRAME)
        server.finish(STREAM)
        server.group(STREAM, GROUP)
        for _ in range(n_kill):
            run = Run(folder, server, "--asapo-acks", "--resume", "-j1")
            before = len(acknowledged(server))
            wait_for_acknowledged(server, min(N_FRAME - 1, before + draw.randrange(1, N_FRAME // n_kill)))
            run.process.kill()
            run.process.wait()
            text = run.output.read_bytes()
            cut += not text.endswith(b"----- End chunk -----\n")
            written += text.count(b"\n----- End chunk -----\n") > len(acknowledged(server))
        done = Run(folder, server, "--asapo-acks", "--resume", "-j1").wait()
        wrong = done.wrong(range(1, N_FRAME + 1))
        if acknowledged(server) != set(range(1, N_FRAME + 1)):
            wrong.append("not all acknowledged")
    row = f"{written} times written and not acknowledged, {cut} times in mid-chunk "
    good = report(f"{n_kill} kills, seed {seed}, {N_FRAME} messages", wrong, row)
    return read_by_crystfel(folder / "out.stream", N_FRAME) and good
