# SPDX-License-Identifier: GPL-3.0-or-later
"""The indexing engines of CrystFEL, and their options: gpuidx has one engine, which needs none of these."""

from collections.abc import Iterator

from gpuidx.arguments import Effect, Foreign

ENGINES = (
    "asdf", "dirax", "felix", "ffbidx", "file", "mosflm", "pinkIndexer", "pinkindexer", "simulation",
    "smallcell", "taketwo", "xds", "xgandalf",
)  # fmt: skip
"""Indexing methods of CrystFEL; named on a command line all but `FILE` mean gpuidx's own engine."""

FILE = "file"
"""The method that takes crystals from a file."""

SUFFIXES = (
    "axes", "bad", "cell", "comb", "latt", "multi", "nocell", "nolatt", "nomulti", "norefine", "noretry",
    "raw", "refine", "retry",
)  # fmt: skip
"""What older versions had behind a method; 0.12 takes and ignores them."""

_HELP = ("asdf", "felix", "ffbidx", "fromfile", "pinkindexer", "smallcell", "taketwo", "xgandalf")

_OPTIONS = {
    "xgandalf": (
        "sampling-pitch,sps=", "grad-desc-iterations,gdis=", "tolerance,tol=",
        "no-deviation-from-provided-cell,ndfpc", "min-lattice-vector-length,min-lvl=",
        "max-lattice-vector-length,max-lvl=", "fast-execution", "max-peaks=",
    ),
    "asdf": ("fast",),
    "taketwo": ("member-threshold=", "len-tolerance=", "angle-tolerance=", "trace-tolerance="),
    "felix": (
        "tthrange-min=", "tthrange-max=", "min-visits=", "min-completeness=", "max-uniqueness=",
        "num-voxels=", "fraction-max-visits=", "sigma=", "domega=", "max-internal-angle=",
    ),
    "pinkIndexer": (
        "considered-peaks-count,cpc=", "angle-resolution,ar=", "refinement-type,rt=", "tolerance,tol=",
        "max-resolution-for-indexing,mrfi=", "reflection-radius=", "max-refinement-disbalance=",
        "multi", "no-check-indexed",
    ),
    "ffbidx": (
        "max-spots=", "ifssr-min-spots=", "output-cells=", "num-candidate-vectors=",
        "redundant-computations", "no-redundant-computations", "ifssr-max-dist=", "ifssr-max-iter=",
        "ifssr-threshold-contraction=", "length-threshold=", "triml=", "trimh=", "delta=", "dist1=",
        "dist3=", "num-halfsphere-points=", "num-angle-points=", "min-spots=",
    ),
}  # fmt: skip
"""Without the engine's name in front; commas separate spellings, and ``=`` says that a value follows."""

_REMOVED = {
    "pinkIndexer": (
        "thread-count,tc=", "override-photon-energy=", "override-bandwidth=",
        "override-visible-energy-range=",
    ),
}  # fmt: skip
"""Options of engines that CrystFEL refuses."""

REMOVED = "is not taken by CrystFEL any more"
OWN_ENGINE = "gpuidx has an indexing engine of its own"

_HELP_TEXT = (
    "gpuidx has an indexing engine of its own instead of CrystFEL's, whose options are taken and ignored.\n"
    "What it heeds: -p, --tolerance, --multi, --no-retry, --no-refine, --no-check-cell, --no-check-peaks;\n"
    "without a cell --axis-range, --consensus-cell and --save-cell.  See gpuidx --help."
)


def _foreign(engine: str, names: str, effect: Effect, text: str) -> Foreign:
    flags = tuple(f"--{engine}-{name}" for name in names.removesuffix("=").split(","))
    return Foreign(flags, names.endswith("="), effect, text)


def engine_options() -> Iterator[Foreign]:
    """All options that belong to an engine."""
    for engine, options in _OPTIONS.items():
        yield from (_foreign(engine, names, "none", OWN_ENGINE) for names in options)
    for engine, options in _REMOVED.items():
        yield from (
            _foreign(engine, names, "refused", "is not taken by CrystFEL any more") for names in options
        )
    for engine in _HELP:
        yield Foreign((f"--help-{engine}",), False, "told", _HELP_TEXT)


def is_method(name: str) -> bool:
    """Whether ``--indexing`` of CrystFEL takes this name, with or without suffixes."""
    engine, *suffixes = name.split("-")
    return engine in ENGINES and set(suffixes) <= set(SUFFIXES)
