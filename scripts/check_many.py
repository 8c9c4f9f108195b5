# SPDX-License-Identifier: GPL-3.0-or-later
"""Several gpuidx on one source; one is killed (-9) while frames flow, and started again.

router: frames from one ROUTER.  relay: from a PUB, behind gpuidx relay.  Both sources keep nothing, so the
frames that the killed one held are lost with it, and no others.  asapo: one group, which gives again what was
not acknowledged: nothing is lost.  In the merged stream each frame is once, and the crystals are those
of the frames that were sent with one.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asapo_check.crystfel import read_by_crystfel
from asapo_check.setting import GROUP, RESEND, STREAM, TIMEOUT_MS, report
from many_check.ranks import MOST_LOST, Rank, merge, until
from many_check.shots import Shots, is_hit
from many_check.sources import Gated, RelayProcess

from gpuidx.simulation.asapo.server import StandIn
from gpuidx.stream.reader import read_stream

BEFORE_KILL = 100
"""Frames that are in the stream of the one that is killed, at the least."""

LEAST_INDEXED = 0.8
"""Share of the frames with a crystal."""

BY_NUMBER = "--by=frame_number"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*CHECKS, []], help="default: all")
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--ranks", type=int, default=4)
    asked = parser.parse_args()
    least = 4 * asked.ranks * BEFORE_KILL  # of the first half each gets about as many, but not just
    if asked.frames < least:
        parser.error(f"--frames is {asked.frames}; with {asked.ranks} ranks it must be at least {least}")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    good = True
    for what in asked.what or CHECKS:
        with tempfile.TemporaryDirectory(prefix="check-many-") as folder:
            good &= CHECKS[what](Path(folder), Shots(Path(folder)), asked.frames, asked.ranks)
    print("all is well" if good else "FAILED")
    return 0 if good else 1


def router(folder: Path, shots: Shots, n_frame: int, n_rank: int) -> bool:
    """All ask one ROUTER."""
    with Gated("router", shots, n_frame) as source:
        words = [f"--zmq-input={source.address}", "--zmq-request=next", *shots.words]
        with killed_and_restarted(folder, n_rank, words) as ranks:
            source.go()
            sent = source.wait()
            codes = [rank.finish(with_signal=True) for rank in ranks]
    return verdict("router", folder, ranks, codes, sent, MOST_LOST, BY_NUMBER)


def relay(folder: Path, shots: Shots, n_frame: int, n_rank: int) -> bool:
    """All ask a relay, which has subscribed to a PUB."""
    with Gated("pub", shots, n_frame) as source, RelayProcess(folder, source.address) as between:
        words = [f"--zmq-input={between.address}", "--zmq-request=next", *shots.words]
        with killed_and_restarted(folder, n_rank, words) as ranks:
            source.go()
            sent = source.wait()
            until("the last frames", lambda: sum(rank.n_chunk() for rank in ranks) >= sent - MOST_LOST)
            said = between.finish()
            codes = [rank.finish(with_signal=True) for rank in ranks]
    print(next((line for line in said.splitlines() if "frames received" in line), said))
    wrong = [] if f"{sent} frames received; {sent} frames sent" in said else ["the relay lost frames"]
    good = report("relay: received and given out", wrong, f"{sent} ")
    return verdict("relay", folder, ranks, codes, sent, MOST_LOST, BY_NUMBER) and good


def asapo(folder: Path, shots: Shots, n_frame: int, n_rank: int) -> bool:
    """All read in one group, with acknowledgements."""
    with StandIn() as server:
        os.environ["GPUIDX_ASAPO_TOKEN"] = server.token
        shots.put(server, n_frame // 2)
        words = [
            f"--asapo-endpoint={server.endpoint}", f"--asapo-beamtime={server.beamtime}",
            f"--asapo-source={server.source}", f"--asapo-group={GROUP}", f"--asapo-stream={STREAM}",
            "--asapo-acks", f"--asapo-resend-after={RESEND}", f"--asapo-consumer-timeout={TIMEOUT_MS}",
            "--no-data-timeout=60", *shots.words,
        ]  # fmt: skip
        with killed_and_restarted(folder, n_rank, words) as ranks:
            shots.put(server, n_frame - n_frame // 2)
            server.finish(STREAM)
            codes = [rank.finish(with_signal=False) for rank in ranks]
    return verdict("asapo", folder, ranks, codes, n_frame, 0)


CHECKS: dict[str, Callable[[Path, Shots, int, int], bool]] = {
    "router": router,
    "relay": relay,
    "asapo": asapo,
}


@contextmanager
def killed_and_restarted(folder: Path, n_rank: int, words: list[str]) -> Iterator[list[Rank]]:
    """Start all, kill the second while it works, and start it again; none is left behind."""
    ranks = [Rank(folder, number, words) for number in range(n_rank)]
    victim = ranks[1]
    try:
        until("frames", lambda: victim.n_chunk() >= BEFORE_KILL)
        victim.kill()
        victim.start()
        for rank in ranks:
            until(f"the start of rank {rank.number}", rank.is_running)
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()


def verdict(
    what: str, folder: Path, ranks: list[Rank], codes: list[int], n_frame: int, most_lost: int, *words: str
) -> bool:
    """Whether each of the frames 1 to *n_frame* is in the merged stream once, but for so many."""
    written = sum(rank.n_chunk() for rank in ranks)
    said = merge(folder, ranks, *words)
    numbers: Counter[int] = Counter()
    names, indexed = set(), []
    with read_stream(folder / "merged.stream") as stream:
        for chunk in stream.chunks:
            number = int(chunk.headers["frame_number"])
            numbers[number] += 1
            indexed += [number] if chunk.crystals else []
            names.add((chunk.filename, chunk.event, chunk.serial))
    lost = n_frame - len(numbers)
    twice = sum(numbers.values()) - len(numbers)
    n_hit = sum(map(is_hit, numbers))
    wrong = [
        *([f"exit codes {codes}"] if any(codes) else []),
        *([f"{twice} frames twice"] if twice else []),
        *([f"{lost} frames lost, at most {most_lost} were in flight"] if not 0 <= lost <= most_lost else []),
        *(["frames that were never sent"] if set(numbers) - set(range(1, n_frame + 1)) else []),
        *(["chunks with the same name"] if len(names) < sum(numbers.values()) else []),
        *(["crystals in blanks"] if not all(map(is_hit, indexed)) else []),
        *([f"only {len(indexed)} of {n_hit} hits indexed"] if len(indexed) < LEAST_INDEXED * n_hit else []),
        *([said] if f"{len(numbers)} frames from {len(ranks)} parts" not in said else []),
    ]
    row = (
        f"{n_frame} sent, {written} written, {written - len(numbers)} duplicates, {lost} lost, "
        f"{len(indexed)} of {n_hit} hits indexed "
    )
    good = report(f"{what}: {len(ranks)} gpuidx, one killed", wrong, row)
    return read_by_crystfel(folder / "merged.stream", len(numbers), len(indexed)) and good


if __name__ == "__main__":
    sys.exit(main())
