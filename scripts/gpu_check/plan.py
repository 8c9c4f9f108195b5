# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is checked and measured: whole, quick, or just enough to show that every part works."""

from dataclasses import dataclass, field
from itertools import product

BLANK, SOME, ALL = "blank", "20 % hits", "all hits"
CONTENTS = (BLANK, SOME, ALL)
NAMED_SIDES = {1024: "1M", 2048: "4M", 3072: "9M", 4096: "16M"}


def size_name(side: int) -> str:
    """1M for 1024 pixels along a side, and so on."""
    return NAMED_SIDES.get(side, f"{side}x{side}")


@dataclass(frozen=True)
class Config:
    """One measured case: pixels along a side, type of pixels, what the frames show, frames of a batch."""

    side: int
    dtype: str
    content: str
    n_frame: int

    @property
    def name(self) -> str:
        """Such as ``4M u2 all hits x32``."""
        return f"{size_name(self.side)} {self.dtype} {self.content} x{self.n_frame}"


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """What is done with the indexing trials.

    Attributes
    ----------
    cells
        Of the made-up experiments; all if None.
    sets
        Kinds of made-up lists, by their names in the benchmark; all if None.
    per_set
        Made-up lists of each kind and cell.
    odd
        Whether senseless lists are compared, too.
    alone
        Lists of each cell that are also tried alone.
    benchmark
        Lists of each cell and set of the benchmark; it has 7.
    kinds
        Of lists that rates are measured with, by their names in `trial_rates.KINDS`; hits first.
    rate_cell
        That most rates are measured with; it must give lists as long as these.
    peaks, batches
        Of the table of rates: peaks of a list, lists of a batch; first those of the goals.
    repeats
        Of each timed batch.
    paths
        Cases of the whole path from pixels to lattices.
    """

    cells: tuple[str, ...] | None = None
    sets: tuple[str, ...] | None = None
    per_set: int = 4
    odd: bool = True
    alone: int = 64
    benchmark: int = 7
    kinds: tuple[str, ...] = ("hits", "1 % bandwidth", "random")
    rate_cell: str = "thau"
    peaks: tuple[int, ...] = (100, 20, 50, 200, 500)
    batches: tuple[int, ...] = (64, 1, 16, 128)
    repeats: int = 10
    paths: tuple[Config, ...] = field(
        default_factory=lambda: tuple(Config(2048, "u2", SOME, n) for n in (32, 64, 128))
    )


@dataclass(frozen=True, kw_only=True)
class PackedPlan:
    """What is done with compressed frames.

    Attributes
    ----------
    every
        Of the whole frames of all types, sizes and backgrounds that are compared, every so many-th.
    damaged
        Damaged chunks.
    """

    every: int = 1
    damaged: int = 600


@dataclass(frozen=True, kw_only=True)
class AxesPlan:
    """What is done with trials without a cell.

    Attributes
    ----------
    lists
        Lists of the benchmark; without the reference data, `per_cell` made-up ones of these cells.
    n_peak, per_cell
        Of the made-up ones.
    axis_range
        Lengths to look for, Å; those that follow from the peaks if None.
    with_lattices
        Whether what a worker makes of the axes is compared, too.
    rate_cell, rate_peaks, batches, retry, repeats
        Of the lists that times are measured with; lists of a batch; ``--retry``; of each timed batch.
    """

    lists: TrialPlan = field(
        default_factory=lambda: TrialPlan(
            cells=("lyso", "p1", "insu", "cys"), sets=("few10", "clean", "random"), benchmark=1
        )
    )
    n_peak: int = 60
    per_cell: int = 4
    axis_range: tuple[float, float] | None = None
    with_lattices: bool = True
    rate_cell: str = "lyso"
    rate_peaks: int = 100
    batches: tuple[int, ...] = (64, 1)
    retry: bool = True
    repeats: int = 10


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    """What is done with the loop of a device process.

    Attributes
    ----------
    paths
        Cases, those of the goals.
    n_frame, seconds
        Of each measurement, whichever is less.
    """

    paths: tuple[Config, ...] = (Config(2048, "u2", SOME, 64), Config(4096, "u2", SOME, 32))
    n_frame: int = 1_000_000
    seconds: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done.

    Attributes
    ----------
    seconds
        For everything; parts that come late are cut.
    small, large
        Cases of the peak search's tests that are compared.
    groups
        Further comparisons, by their names in `cases.GROUPS`.
    sanitizer_seconds, sanitizer_groups
        For each tool of compute-sanitizer; what it sees, by the names in `groups`, ``small`` for small cases,
        ``trials`` for some indexing trials, ``packed`` for compressed pixels.
    main_side
        Size of the frames of verdict, start-up and latency.
    configs
        Measured cases, the most important first.
    ring_bytes, copy_bytes
        Of the page-locked ring, and of the copies that bandwidth is measured by.
    repeats
        Of each timed piece of work.
    flow_frames
        Frames at least of each measurement of the whole path.
    latency_frames
        Frames of the measurement of latency.
    start_types
        Pixel types whose kernels are compiled at start-up; all, as a run does, or one.
    trials, axes, packed, service
        Of the indexing trials, those without a cell, compressed frames, the loop of a device process.
    """

    seconds: float = 350.0
    small: range = range(60)
    large: range = range(6)
    groups: tuple[str, ...] = ("types", "positions", "saturation", "fast", "candidates", "queue")
    sanitizer_seconds: float = 15.0
    sanitizer_groups: tuple[str, ...] = ("packed", "trials", "types", "positions", "fast", "small")
    main_side: int = 2048
    configs: tuple[Config, ...] = field(default_factory=lambda: tuple(all_configs()))
    ring_bytes: int = 1 << 30
    copy_bytes: int = 1 << 30
    repeats: int = 10
    flow_frames: int = 1024
    latency_frames: int = 400
    start_types: str = "all"
    trials: TrialPlan = TrialPlan()
    axes: AxesPlan = AxesPlan()
    packed: PackedPlan = PackedPlan()
    service: ServicePlan = ServicePlan()


def all_configs() -> list[Config]:
    """4M in full; of the other sizes a part; the goal's case first."""
    main = [Config(2048, d, c, n) for d, c, n in product(("u2", "i4", "f4"), CONTENTS, (32, 8, 1, 128))]
    others = [
        Config(side, dtype, content, n)
        for side, batches in ((4096, (32, 8)), (1024, (32, 128, 8, 1)), (3072, (32,)))
        for dtype, content, n in product(("u2", "i4"), CONTENTS, batches)
    ]
    # one frame is a hit or none
    return [config for config in main + others if not (config.n_frame == 1 and config.content == SOME)]


FULL = Plan()

QUICK = Plan(
    seconds=180.0,
    small=range(12),
    large=range(2),
    sanitizer_seconds=10.0,
    configs=tuple(c for c in all_configs() if c.side == 2048 and c.dtype == "u2" and c.n_frame in (32, 1)),
    flow_frames=256,
    latency_frames=100,
    trials=TrialPlan(
        cells=("lyso", "p1", "psi", "cys"),
        per_set=1,
        alone=8,
        benchmark=1,
        peaks=(100,),
        batches=(64, 1),
        paths=(Config(2048, "u2", SOME, 32),),
    ),
    axes=AxesPlan(lists=TrialPlan(cells=("lyso", "cys"), sets=("few10", "clean"), benchmark=1), per_cell=1),
    packed=PackedPlan(every=3, damaged=200),
    service=ServicePlan(seconds=2.0),
)

TINY = Plan(
    seconds=300.0,
    small=range(0),
    large=range(0),
    groups=("types", "positions", "candidates"),
    sanitizer_seconds=200.0,
    sanitizer_groups=("packed", "trials", "types"),
    main_side=128,
    configs=(Config(128, "u2", ALL, 32), Config(64, "i4", BLANK, 1)),
    ring_bytes=1 << 19,
    copy_bytes=1 << 16,
    repeats=2,
    flow_frames=16,
    latency_frames=5,
    start_types="u2",
    trials=TrialPlan(
        cells=("lyso",),
        sets=("few10", "lat2", "random"),
        per_set=1,
        odd=False,
        alone=2,
        benchmark=0,
        kinds=("hits", "random"),
        rate_cell="lyso",
        peaks=(10,),
        batches=(2, 1),
        repeats=1,
        paths=(Config(128, "u2", SOME, 5),),
    ),
    axes=AxesPlan(
        lists=TrialPlan(cells=("cys",), benchmark=0),
        n_peak=8,
        per_cell=1,
        axis_range=(5.0, 5.2),
        with_lattices=False,
        rate_cell="cys",
        rate_peaks=8,
        batches=(2, 1),
        retry=False,
        repeats=1,
    ),
    packed=PackedPlan(every=13, damaged=12),
    service=ServicePlan(paths=(Config(128, "u2", SOME, 3),), n_frame=11, seconds=100.0),
)
"""Proves that the script works, on a device that is only pretended; its figures mean nothing."""
