# SPDX-License-Identifier: GPL-3.0-or-later
"""The computed tables of docs/performance.md: bytes, operations and roofline.

``PYTHONPATH=.:scripts python -m gpu_check.computed`` prints them.
"""

from collections.abc import Iterator
from itertools import product

from gpu_check.plan import size_name
from gpuidx.backends.cuda.traffic import (
    CARDS,
    LATENCY,
    Work,
    bounds,
    search_traffic,
    source_numbers,
    total,
    transfer,
)
from gpuidx.backends.rings import ROUNDS

BATCH, N_CANDIDATE, N_PEAK = 32, 1000, 100
CASES = tuple(product((2048, 4096), (2, 4)))
BEGIN, END = "<!-- computed by gpu_check.computed -->", "<!-- end of computed -->"


def tables() -> str:
    """Both tables in Markdown, between the marks that docs/performance.md has about them."""
    return "\n".join([BEGIN, *_traffic_table(), "", *_roofline(), END])


def _work(side: int, itemsize: int, n_frame: int = BATCH) -> Work:
    return Work.square(side, itemsize, n_frame, n_candidate=N_CANDIDATE, n_peak=N_PEAK)


def _case_name(side: int, itemsize: int) -> str:
    return f"{size_name(side)}, {8 * itemsize} bit"


def _traffic_table() -> Iterator[str]:
    yield (
        f"Computed for batches of {BATCH} frames, all pixels used, {N_CANDIDATE} candidate pixels and "
        f"{N_PEAK} peaks a frame, {ROUNDS} rounds,"
    )
    yield (
        f"tiles of {source_numbers()['TILE']} pixels: MB of device memory that a frame moves, in brackets "
        "bytes a pixel; instructions of a lane a pixel."
    )
    yield ""
    yield "| kernel | " + " | ".join(_case_name(*case) for case in CASES) + " | instructions |"
    yield "|---|" + "---|" * (len(CASES) + 1)
    works = [_work(*case) for case in CASES]
    each = [search_traffic(work) for work in works]
    for name in each[0]:
        yield (
            f"| {name} | "
            + " | ".join(_moved(traffic[name].moved, work) for traffic, work in zip(each, works, strict=True))
            + f" | {_per_pixel(each[0][name].operations, works[0])} |"
        )
    sums = [total(traffic) for traffic in each]
    yield (
        "| all | "
        + " | ".join(_moved(t.moved, w) for t, w in zip(sums, works, strict=True))
        + (f" | {_per_pixel(sums[0].operations, works[0])} |")
    )
    ups = [transfer(work) for work in works]
    for row, direction in enumerate(("host to device", "device to host")):
        yield (
            f"| {direction} | "
            + " | ".join(_moved(up[row], work) for up, work in zip(ups, works, strict=True))
            + " | |"
        )


def _moved(n_byte: float, work: Work) -> str:
    return f"{n_byte / work.n_frame / 1e6:.3f} ({n_byte / work.n_frame / work.n_pixel:.2f})"


def _per_pixel(operations: float, work: Work) -> str:
    return f"{operations / work.n_frame / work.n_pixel:.1f}" if operations else ""


def _roofline() -> Iterator[str]:
    yield "Computed: least time of a frame in µs by each limit alone, and frames/s by the greatest of them."
    yield (
        f"*Chain*: the longest ring's pixels are loaded {source_numbers()['AHEAD']} at a time, one lot after "
        f"the other, {1e6 * LATENCY:g} µs"
    )
    yield "each (assumed); the frames of a batch share that time."
    yield ""
    heads = ("card", "frame", "batch", "memory", "instructions", "chain", "bus", "frames/s", "with the bus")
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for card, case, n_frame in product(CARDS, CASES, (8, BATCH)):
        limit = bounds(_work(*case, n_frame), card)
        times = [limit.memory, limit.instructions, limit.chain, limit.bus]
        yield (
            f"| {card.name} | {_case_name(*case)} | {n_frame} | "
            + " | ".join(f"{1e6 * seconds / n_frame:.1f}" for seconds in times)
            + f" | {_round(n_frame / limit.kernels)} | {_round(n_frame / limit.path)} |"
        )


def _round(rate: float) -> str:
    """Two figures: more would pretend to be exact."""
    return f"{float(f'{rate:.2g}'):.0f}"


if __name__ == "__main__":
    print(tables())
