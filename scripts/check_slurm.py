# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/slurm under a real Slurm: one gpuidx is killed, then the job step, then the job is requeued.

The frames come from the stand-in ASAP::O server, which keeps what is not acknowledged; so each must be in the
merged stream exactly once.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from asapo_check.crystfel import read_by_crystfel
from asapo_check.setting import (
    GEOMETRY,
    GROUP,
    NO_ANALYSIS,
    NO_DATA,
    PATIENCE,
    RESEND,
    SMALL,
    STREAM,
    TIMEOUT_MS,
    acknowledged,
    read_ids,
    report,
    wait_for_acknowledged,
    what_is_wrong,
)
from many_check.slurm import Slurm

from gpuidx.simulation.asapo.server import StandIn

SCRIPT = Path(__file__).parent / "slurm" / "gpuidx.sbatch"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--ranks", type=int, default=4)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(SCRIPT.parents[2])  # the job runs this program, installed or not
    os.environ["GPUIDX"] = f"{sys.executable} -m gpuidx"
    with tempfile.TemporaryDirectory(prefix="check-slurm-", dir="/var/tmp") as name, StandIn() as server:
        folder = Path(name)
        folder.chmod(0o755)  # Slurm's programs look into it
        with Slurm(folder, asked.ranks) as slurm:
            good = check(folder, slurm, server, asked.frames, asked.ranks)
    print("all is well" if good else "FAILED")
    return 0 if good else 1


def check(folder: Path, slurm: Slurm, server: StandIn, n_frame: int, n_rank: int) -> bool:
    """Have frames done by a job that is disturbed thrice."""
    SMALL.put(server, 1)
    server.group(STREAM, GROUP)
    job = slurm.submit(
        f"--ntasks={n_rank}", f"--output={folder}/job.log", str(SCRIPT), *words(folder, server)
    )
    disturbances: list[tuple[str, Callable[[], object]]] = [
        ("kill -9 of the gpuidx of rank 1", lambda: os.kill(process_of(job, 1), signal.SIGKILL)),
        (f"scancel --signal=KILL {job}.0", lambda: slurm.ask("scancel", "--signal=KILL", f"{job}.0")),
        (f"scontrol requeue {job}", lambda: slurm.ask("scontrol", "requeue", job)),
        ("", lambda: server.finish(STREAM)),
    ]
    quarter = n_frame // len(disturbances)
    for number, (what, disturb) in enumerate(disturbances):
        SMALL.put(server, (number + 1) * quarter - server.store.size(server.source, STREAM))
        if not wait_for_acknowledged(server, number * quarter + quarter // 2):
            print((folder / "job.log").read_text())
            return report(what or "the end", [f"{len(acknowledged(server))} frames done, then no more"])
        if what:
            print(f"{len(acknowledged(server)):6} frames acknowledged: {what}", flush=True)
        disturb()
    state = last_state(slurm, job)
    log = (folder / "job.log").read_text()
    merged = folder / "out.stream"
    if state != "COMPLETED" or not merged.exists():
        print(log)
        return report("the job", [f"it is {state}"])
    ids, mixed = read_ids(merged)
    wrong = what_is_wrong(ids, range(1, quarter * len(disturbances) + 1))
    wrong += [f"{mixed} chunks with another frame's data"] if mixed else []
    restarts = log.count("starting it again")
    wrong += ["nothing was started again"] if restarts < 2 else []
    said = next((line for line in log.splitlines() if "left out" in line), "")
    print(said.partition(": ")[2])
    good = report(f"{n_rank} ranks, {sum(ids.values())} frames", wrong, f"{restarts} restarts, 1 requeue ")
    return read_by_crystfel(merged, sum(ids.values())) and good


def words(folder: Path, server: StandIn) -> list[str]:
    """The stream, and the options of the ranks."""
    geometry, token = folder / "check.geom", folder / "token"
    geometry.write_text(GEOMETRY.format(last=SMALL.side - 1, half=SMALL.side / 2))
    token.write_text(server.token)
    return [
        str(folder / "out.stream"), f"--asapo-endpoint={server.endpoint}", f"--asapo-token-file={token}",
        f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", f"--asapo-group={GROUP}",
        f"--asapo-stream={STREAM}", "--asapo-acks", f"--asapo-resend-after={RESEND}",
        f"--asapo-consumer-timeout={TIMEOUT_MS}", f"--no-data-timeout={3 * NO_DATA}", "-g", str(geometry),
        "--copy-header=frame_number", *NO_ANALYSIS,
    ]  # fmt: skip


def process_of(job: str, rank: int) -> int:
    """The main process of the gpuidx of a rank: the one that a shell has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            said = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            shell = Path(f"/proc/{parent}/comm").read_text()
        except OSError:
            continue
        wanted = {f"SLURM_PROCID={rank}".encode(), f"SLURM_JOB_ID={job}".encode()}
        if wanted <= set(variables) and b"--resume" in said and b"gpuidx" in said and shell == "bash\n":
            return int(folder.name)
    raise RuntimeError(f"no gpuidx of rank {rank}")


def last_state(slurm: Slurm, job: str) -> str:
    """The state of a job once it has ended."""
    end = time.monotonic() + PATIENCE
    while (state := slurm.state(job)) not in ENDED and time.monotonic() < end:
        time.sleep(0.5)
    return state


if __name__ == "__main__":
    sys.exit(main())
