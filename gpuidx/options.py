# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a run, its default and its help; a stage takes the base class that it depends on.

Names, spellings and defaults are indexamajig's where it has the option.  argparse-dataclass reads the
field types at run time, so there is no `from __future__ import annotations` here.
"""

import math
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from gpuidx.arguments import option
from gpuidx.errors import OptionError

BASIC = "Basic options"
PEAKS = "Peak search options"
INDEXING = "Indexing options"
INTEGRATION = "Integration options"
OUTPUT = "Output options"
RUN = "Running gpuidx"

ENGINES = (
    "asdf", "dirax", "felix", "ffbidx", "file", "mosflm", "pinkIndexer", "smallcell", "taketwo", "xds",
    "xgandalf",
)  # fmt: skip
"""Indexing methods of CrystFEL; named on a command line they all mean gpuidx's own engine."""


DATA_FORMATS = (
    "auto", "msgpack", "hdf5", "seedee", "cbf", "dectris-v1", "dectris-v2", "jungfraujoch", "lclstreamer",
)  # fmt: skip

PEAK_METHODS = ("zaef", "peakfinder8", "peakfinder9", "msgpack", "hdf5", "cxi", "none")

PEAKS_SENT = ("msgpack", "hdf5", "cxi")
"""Values of ``--peaks`` that mean lists which come with the frames."""

OPTIONAL_PARTS = ("zaef", "peakfinder9", "filters", "no cell")
"""What is compiled only for runs that need it."""

PARTS_VARIABLE = "GPUIDX_PARTS"
"""Tells the forkserver, which has no options, which of these to compile; without it all."""

MOST_BATCH = 128
"""Frames in a batch of a CUDA device."""

USUAL_BATCH = 32
"""Frames that a device works on together if it has memory for them: as many as lie side by side."""


def numbers(*counts: int) -> Callable[[str], tuple[float, ...]]:
    """A parser of comma-separated numbers, as many as one of *counts* says."""

    def parse(text: str) -> tuple[float, ...]:
        values = tuple(float(word) for word in text.split(","))
        if len(values) not in counts:
            raise ValueError(text)
        return values

    parse.__name__ = " or ".join(map(str, counts)) + " numbers separated by commas,"
    return parse


def tolerance(text: str) -> tuple[float, ...]:
    """``a,b,c,al,be,ga`` in percent and degrees; of four numbers the last holds for all angles."""
    values = numbers(4, 6)(text)
    return values if len(values) == 6 else (*values[:3], values[3], values[3], values[3])


tolerance.__name__ = "four or six numbers separated by commas,"


def devices(text: str) -> tuple[int, ...]:
    """``0,1``: these devices, each once, in this order; ``all``: an empty tuple."""
    if text == "all":
        return ()
    if not all(word.isascii() and word.isdigit() for word in text.split(",")):
        raise ValueError(text)
    return tuple(dict.fromkeys(int(word) for word in text.split(",")))


devices.__name__ = "all or device numbers separated by commas,"


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Where frames come from and how they are understood."""

    input: str | None = option(
        None, "-i", "--input", group=BASIC, metavar="FILE",
        help="list of image files, one per line, perhaps with an event; - for standard input",
    )  # fmt: skip
    geometry: str = option("", "-g", "--geometry", group=BASIC, metavar="FILE", help="geometry file (.geom)")
    zmq_input: tuple[str, ...] = option(
        (), group=BASIC, metavar="ADDRESS", repeat=True,
        help="receive frames over ZeroMQ from this address; repeatable",
    )  # fmt: skip
    zmq_subscribe: tuple[str, ...] = option(
        (), group=BASIC, metavar="TAG", repeat=True, help="subscribe to this tag (SUB socket); repeatable"
    )
    zmq_request: str | None = option(
        None, group=BASIC, metavar="STRING", help="send this string for each frame (REQ socket)"
    )
    zmq_pull: bool = option(
        False, group=BASIC, help="take what is pushed (PULL socket), as DECTRIS detectors and LCLStreamer do"
    )
    zmq_bind: bool = option(
        False, group=BASIC, help="bind to the addresses instead of connecting to them: the senders connect"
    )
    zmq_server_key: str | None = option(
        None, group=BASIC, metavar="FILE", help="public key of the server (CURVE), to encrypt the connection"
    )
    zmq_own_key: str | None = option(
        None, group=BASIC, metavar="FILE", help="own secret key (CURVE); with --zmq-bind that of the server"
    )
    data_format: str = option(
        "auto", group=BASIC, metavar="FORMAT", choices=DATA_FORMATS,
        help=f"format of streamed frames: {', '.join(DATA_FORMATS)}",
    )  # fmt: skip
    image_data: bool = option(
        True, group=BASIC, off=True, help="do not read the image, only headers and the peak list"
    )
    mask_data: bool = option(True, group=BASIC, off=True, help="do not read pixel masks from files")
    highres: float = option(
        math.inf, group=BASIC, metavar="A", type=float, help="ignore pixels beyond this resolution, in Å"
    )
    no_data_timeout: float | None = option(
        None, group=BASIC, metavar="S", help="end the run when nothing has come for this many seconds"
    )
    max_frames: int | None = option(None, group=BASIC, metavar="N", help="end the run after this many frames")
    zmq_requests: int = option(
        4, group=BASIC, metavar="N", help="requests in flight at the same time, with --zmq-request"
    )
    zmq_timeout: float = option(
        60.0, group=BASIC, metavar="S",
        help="ask again if a request was not answered for this long although the connection lives",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PeakOptions:
    """Peak search, and what is done with peaks that came with a frame."""

    peaks: str = option(
        "zaef", group=PEAKS, metavar="METHOD", choices=PEAK_METHODS,
        help="peak search: zaef, peakfinder8, peakfinder9, peaks sent along (msgpack, hdf5 or cxi) or none",
    )  # fmt: skip
    peak_radius: tuple[float, ...] | None = option(
        None, group=PEAKS, metavar="R1,R2,R3", type=numbers(3),
        help="radii for zaef and for checking supplied peaks, px; those of --int-radius if not given",
    )  # fmt: skip
    median_filter: int = option(
        0, group=PEAKS, metavar="N",
        help="look for peaks in the image less the median of the square of N pixels to all sides",
    )  # fmt: skip
    filter_noise: bool = option(
        False, group=PEAKS, help="look for peaks in what CrystFEL's noise filter leaves: nothing but borders"
    )
    min_peaks: int = option(0, group=PEAKS, metavar="N", help="fewer peaks are not a hit")
    threshold: float = option(
        800.0, "-t", "--threshold", group=PEAKS, metavar="ADU", help="least pixel value"
    )
    min_squared_gradient: float = option(
        100000.0, "--min-squared-gradient", group=PEAKS, metavar="N",
        hidden=("--min-gradient", "--min-sq-gradient"),
        help="zaef: least squared gradient, ADU² per px²",
    )  # fmt: skip
    min_snr: float = option(5.0, group=PEAKS, metavar="N", help="least signal to noise ratio of a peak")
    min_snr_biggest_pix: float = option(
        7.0, group=PEAKS, metavar="N", help="peakfinder9: least height of a peak's highest pixel, sigma"
    )
    min_snr_peak_pix: float = option(
        6.0, group=PEAKS, metavar="N", help="peakfinder9: least height of a peak's other pixels, sigma"
    )
    min_sig: float = option(
        11.0,
        group=PEAKS,
        metavar="ADU",
        help="peakfinder9: sigma of the background is taken to be at least this",
    )
    min_peak_over_neighbour: float = option(
        -math.inf, group=PEAKS, metavar="ADU", type=float,
        help="peakfinder9: least height of a peak above the pixels around it, to save time",
    )  # fmt: skip
    min_pix_count: int = option(2, group=PEAKS, metavar="N", help="least number of pixels of a peak")
    max_pix_count: int = option(200, group=PEAKS, metavar="N", help="greatest number of pixels of a peak")
    local_bg_radius: int = option(3, group=PEAKS, metavar="N", help="radius for the local background, px")
    min_res: int = option(0, group=PEAKS, metavar="N", help="no peaks within this radius, px")
    max_res: int = option(0, group=PEAKS, metavar="N", help="no peaks beyond this radius, px; 0: no limit")
    use_saturated: bool = option(True, group=PEAKS, off=True, help="drop saturated peaks")
    revalidate: bool = option(True, group=PEAKS, off=True, help="take supplied peaks as they are")
    half_pixel_shift: bool = option(
        True, group=PEAKS, off=True, help="do not add 0.5 to the positions of supplied peaks"
    )
    check_hdf5_snr: bool = option(False, group=PEAKS, help="apply --min-snr to supplied peaks")
    hdf5_peaks: str | None = option(None, group=PEAKS, metavar="PATH", help=SUPPRESS)
    peakfinder8_fast: bool = option(False, group=PEAKS, help="radial statistics from a sample of the pixels")

    @property
    def filters(self) -> bool:
        """Whether the image is changed before it is searched."""
        return self.median_filter > 0 or self.filter_noise

    @property
    def searches(self) -> bool:
        """Whether peaks are looked for in images."""
        return self.peaks in ("zaef", "peakfinder8", "peakfinder9")

    @property
    def device_searches(self) -> bool:
        """Whether a CUDA device can look for the peaks: by peakfinder8, in images as they are."""
        return self.peaks == "peakfinder8" and not self.filters


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """Indexing trials, checks and refinement."""

    indexing: str | None = option(
        None, "--indexing", group=INDEXING, metavar="METHODS", hidden=("-z",),
        help="none, or any of CrystFEL's methods: all mean gpuidx's own engine",
    )  # fmt: skip
    pdb: str | None = option(
        None, "-p", "--pdb", group=INDEXING, metavar="FILE", help="unit cell, as .cell or PDB file"
    )
    tolerance: tuple[float, ...] = option(
        (5.0, 5.0, 5.0, 1.5, 1.5, 1.5), group=INDEXING, metavar="A,B,C,AL,BE,GA", type=tolerance,
        help="greatest difference from the target cell, percent and degrees",
    )  # fmt: skip
    axis_range: tuple[float, ...] | None = option(
        None, group=INDEXING, metavar="MIN,MAX", type=numbers(2),
        help="without -p: axes of the primitive cell to look for, Å; else from the peaks, up to 400",
    )  # fmt: skip
    consensus_cell: bool = option(
        False, group=INDEXING, help="without -p: use the cell that frames agree on, as soon as enough do"
    )
    save_cell: str | None = option(
        None, group=INDEXING, metavar="FILE",
        help="without -p: write the cell that frames agree on to this .cell file; overwritten",
    )  # fmt: skip
    check_cell: bool = option(True, group=INDEXING, switch=True, help="take lattices of any cell")
    multi: bool = option(False, group=INDEXING, switch=True, help="look for further lattices in each frame")
    retry: bool = option(True, group=INDEXING, switch=True, help="do not try again without the weakest peaks")
    refine: bool = option(True, group=INDEXING, switch=True, help="do not refine against peak positions")
    check_peaks: bool = option(
        True, group=INDEXING, switch=True, help="take lattices that explain only few of the peaks"
    )
    refine_shift: bool = option(
        False, group=INDEXING, help="fit the shift of the detector for each crystal, use and report it"
    )
    wavelength_estimate: float | None = option(
        None, group=INDEXING, metavar="M", help="warn about frames that differ by more than 10 percent"
    )
    camera_length_estimate: float | None = option(
        None, group=INDEXING, metavar="M", help="warn about frames that differ by more than 10 percent"
    )
    max_indexer_threads: int = option(
        1, group=INDEXING, metavar="N", help="accepted; use -j for more processes"
    )
    no_cell_combinations: bool = option(False, group=INDEXING, help=SUPPRESS)


@dataclass(frozen=True, kw_only=True)
class IntegrationOptions:
    """Prediction and integration."""

    integration: str = option(
        "rings-nocen-nosat-nograd", group=INTEGRATION, metavar="METHOD",
        help="none, or rings with -cen, -sat, -grad or their opposites -nocen, -nosat, -nograd",
    )  # fmt: skip
    fix_profile_radius: float | None = option(
        None, group=INTEGRATION, metavar="R", help="profile radius in m⁻¹ instead of that of the peaks"
    )
    fix_bandwidth: str | None = option(None, group=INTEGRATION, metavar="BW", help=SUPPRESS)
    fix_divergence: float = option(
        0.0, group=INTEGRATION, metavar="RAD", help="beam divergence, for the stream only"
    )
    int_radius: tuple[float, ...] = option(
        (4.0, 5.0, 7.0), group=INTEGRATION, metavar="R1,R2,R3", type=numbers(3),
        help="radii of the peak and of its background ring, px",
    )  # fmt: skip
    push_res: float = option(
        math.inf, group=INTEGRATION, metavar="NM-1", type=float,
        help="integrate this far beyond the resolution limit of the frame, nm⁻¹",
    )  # fmt: skip
    overpredict: bool = option(False, group=INTEGRATION, help="predict with five times the profile radius")
    cell_parameters_only: bool = option(False, group=INTEGRATION, help="no prediction, no integration")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What the stream holds."""

    output: str = option(
        "", "-o", "--output", group=BASIC, metavar="FILE", help="stream file to write; overwritten"
    )
    non_hits_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out frames that are no hits")
    copy_header: tuple[str, ...] = option(
        (), "--copy-header", group=OUTPUT, metavar="NAME", repeat=True, hidden=("--copy-hdf5-field",),
        help="copy this value of the frame to the stream; repeatable",
    )  # fmt: skip
    peaks_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out the peak lists")
    refls_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out the reflection lists")
    serial_start: int = option(1, group=OUTPUT, metavar="N", help="serial number of the first frame")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Processes, memory, what is shown."""

    jobs: int = option(1, "-j", group=BASIC, metavar="N", help="worker processes")
    profile: bool = option(False, group=BASIC, help="show at the end where the time went, by stage")
    backend: str = option(
        "auto", group=RUN, metavar="NAME", choices=("auto", "cpu", "cuda"),
        help="what does the array work: cpu, cuda, or auto: cuda where a device is usable; "
        "see 'gpuidx devices'",
    )  # fmt: skip
    gpu_devices: tuple[int, ...] = option(
        (0,), group=RUN, metavar="LIST", type=devices,
        help="CUDA devices to use, as numbers like 0,1 or all",
    )  # fmt: skip
    gpu_batch: int = option(
        0, group=RUN, metavar="N",
        help=f"frames a CUDA device works on together, at most {MOST_BATCH}; 0: from its memory",
    )  # fmt: skip
    gpu_memory: float = option(
        0.0, group=RUN, metavar="GB", help="most memory to take on each CUDA device; 0: most of what is free"
    )
    gpu_max_latency: float = option(
        20.0, group=RUN, metavar="MS", help="a frame waits no longer than this for a batch to fill"
    )
    slots: int = option(
        0,
        group=RUN,
        metavar="N",
        help="messages held in memory; 0: four, four for each worker, three batches for each CUDA device",
    )
    slot_size: float = option(
        0.0, group=RUN, metavar="MB", help="largest message, in MB; 0: from the geometry's number of pixels"
    )
    task_limit: float = option(
        30.0, group=RUN, metavar="S", help="a worker that needs longer for a frame is replaced"
    )
    status_interval: float = option(5.0, group=RUN, metavar="S", help="time between two status lines")
    advise_after: int = option(
        200, group=RUN, metavar="N", help="frames without any hit or crystal before causes are suggested"
    )
    debug: bool = option(False, group=RUN, help="tracebacks, core dumps, a line for each frame")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, OutputOptions, IntegrationOptions, IndexOptions, PeakOptions, InputOptions):
    """All options of a run, checked against each other."""

    def __post_init__(self) -> None:
        _check_sources(self)
        _check_values(self)
        _check_support(self)

    @property
    def engine_names(self) -> tuple[str, ...]:
        """Other programs' engines that ``--indexing`` names."""
        return tuple(n for n in (self.indexing or "").split(",") if n and n != "none")

    def optional_parts(self, has_cell: bool) -> list[str]:
        """Those of `OPTIONAL_PARTS` that this run needs, with or without a target cell."""
        needed = {
            self.peaks,
            "filters" if self.filters else "",
            "no cell" if self.does_index and not has_cell else "",
        }
        return [part for part in OPTIONAL_PARTS if part in needed]

    @property
    def does_index(self) -> bool:
        """Whether frames are to be indexed at all."""
        return self.indexing != "none"


def _check_sources(o: Options) -> None:
    if not o.geometry:
        raise OptionError("no geometry file; give one with -g")
    if not o.output:
        raise OptionError("no output file; give one with -o")
    if o.input is not None and o.zmq_input:
        raise OptionError("--input and --zmq-input exclude each other; give one")
    if o.input is None and not o.zmq_input:
        raise OptionError("no input; give a list of files with -i or an address with --zmq-input")
    ways = {
        "--zmq-subscribe": bool(o.zmq_subscribe),
        "--zmq-request": o.zmq_request is not None,
        "--zmq-pull": o.zmq_pull,
    }
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} exclude each other; give one")
    if not o.zmq_input:
        given += ["--zmq-bind"] * o.zmq_bind
        given += ["--zmq-server-key"] * bool(o.zmq_server_key) + ["--zmq-own-key"] * bool(o.zmq_own_key)
        if given:
            raise OptionError(f"{given[0]} needs --zmq-input")
    elif not given:
        raise OptionError(
            "--zmq-input needs --zmq-subscribe=TAG (an empty TAG takes everything), --zmq-request=STRING "
            "or --zmq-pull"
        )


_AT_LEAST = {
    "jobs": 1, "min_peaks": 0, "min_pix_count": 0, "max_pix_count": 0, "local_bg_radius": 1, "min_res": 0,
    "max_res": 0, "median_filter": 0, "min_sig": 0, "min_snr_biggest_pix": 0, "min_snr_peak_pix": 0,
    "slots": 0, "slot_size": 0, "task_limit": 0.001,
    "status_interval": 0.1, "zmq_requests": 1, "zmq_timeout": 0.001, "no_data_timeout": 0.001,
    "max_frames": 1, "max_indexer_threads": 1, "serial_start": 0, "advise_after": 1, "gpu_batch": 0,
    "gpu_memory": 0, "gpu_max_latency": 0,
}  # fmt: skip


_ABOVE_ZERO = ("highres", "fix_profile_radius", "wavelength_estimate", "camera_length_estimate")

_FINITE = ("threshold", "min_snr", "min_squared_gradient", "min_snr_biggest_pix", "min_snr_peak_pix",
           "min_sig", "fix_profile_radius", "fix_divergence", "slot_size",
           "wavelength_estimate", "camera_length_estimate", "gpu_memory", "gpu_max_latency")  # fmt: skip

_MOST_INTEGER = 2**31 - 1
"""Kernels, and the readers of streams, hold counts and serial numbers in 32 bits."""

FEWEST_BG_RADIUS = 2
"""Of peakfinder9, px: with less there is no room between a peak and what is around it."""

MOST_MEDIAN_RADIUS = 50
"""px; the time for a frame grows with it."""

_MOST_REQUESTS = 1000
"""In flight; each has a socket of its own."""


def _flag(name: str) -> str:
    return "-j" if name == "jobs" else "--" + name.replace("_", "-")


def _check_values(o: Options) -> None:
    for name, least in _AT_LEAST.items():
        value = getattr(o, name)
        if value is not None and not value >= least:
            raise OptionError(f"{_flag(name)} is {value:g}; it must be at least {least:g}")
    for field in fields(o):
        value = getattr(o, field.name)
        if type(value) is int and abs(value) > _MOST_INTEGER:
            raise OptionError(f"{_flag(field.name)} is {value}; it must be at most {_MOST_INTEGER}")
    for name in _FINITE:
        value = getattr(o, name)
        if value is not None and not math.isfinite(value):
            raise OptionError(f"{_flag(name)} is {value:g}; it must be a finite number")
    for name in _ABOVE_ZERO:
        value = getattr(o, name)
        if value is not None and not value > 0:
            raise OptionError(f"{_flag(name)} is {value:g}; it must be above 0")
    if math.isnan(o.push_res):
        raise OptionError("--push-res is nan; it is a number of nm⁻¹")
    if o.zmq_requests > _MOST_REQUESTS:
        raise OptionError(f"--zmq-requests is {o.zmq_requests}; it must be at most {_MOST_REQUESTS}")
    if o.gpu_batch > MOST_BATCH:
        raise OptionError(f"--gpu-batch is {o.gpu_batch}; it must be at most {MOST_BATCH}")
    if o.median_filter > MOST_MEDIAN_RADIUS:
        raise OptionError(f"--median-filter is {o.median_filter}; it must be at most {MOST_MEDIAN_RADIUS}")
    if math.isnan(o.min_peak_over_neighbour):
        raise OptionError("--min-peak-over-neighbour is nan; it is a number of ADU")
    if o.axis_range is not None and not 0 < o.axis_range[0] < o.axis_range[1] < math.inf:
        raise OptionError("--axis-range needs two rising numbers above 0, in Å")
    if any(not t > 0 for t in o.tolerance):
        raise OptionError("--tolerance needs numbers above 0")
    for name in ("int_radius", "peak_radius"):
        radii = getattr(o, name)
        if radii is not None and not 0 < radii[0] <= radii[1] < radii[2] <= 100:
            raise OptionError(f"{_flag(name)} needs rising radii, 0 < R1 <= R2 < R3 <= 100")
    for header in o.copy_header:
        if not header.isprintable():
            raise OptionError(f"--copy-header={header!r} holds a character that no stream can hold")


def _check_support(o: Options) -> None:
    if o.peaks == "msgpack" and not o.zmq_input:
        raise OptionError("--peaks=msgpack takes peaks from messages; it needs --zmq-input")
    if o.searches and not o.image_data:
        raise OptionError(f"--peaks={o.peaks} needs images; give --peaks=msgpack, or no --no-image-data")
    if o.peaks == "peakfinder9" and o.local_bg_radius < FEWEST_BG_RADIUS:
        raise OptionError(f"--peaks=peakfinder9 needs --local-bg-radius={FEWEST_BG_RADIUS} or more")
    if o.peaks in PEAKS_SENT and o.revalidate and not o.image_data:
        raise OptionError(
            "without images the peaks sent along cannot be checked, and none would be left; "
            "give --no-revalidate with --no-image-data"
        )
    words = o.integration.replace(",", "-").split("-")
    known = {"none", "rings", "cen", "nocen", "sat", "nosat", "grad", "nograd"}
    if words[0] == "prof2d":
        raise OptionError("--integration=prof2d is not built in yet; give rings")
    if words[0] not in ("rings", "none") or not set(words) <= known:
        raise OptionError(f"--integration={o.integration} is not understood; for instance rings-nocen-nosat")
    for name in o.engine_names:
        if name.split("-")[0] not in ENGINES:
            raise OptionError(f"--indexing={name} is not a method; known are none, {', '.join(ENGINES)}")


REMOVED = {
    "hdf5_peaks": "put 'peak_list = PATH' into the geometry",
    "no_cell_combinations": "cells are not combined",
    "fix_bandwidth": "put 'bandwidth = BW' into the geometry",
}
"""Options that indexamajig has given up and still takes; why they are not needed, or what to do."""


def notices(o: Options) -> list[str]:
    """What is said of options that were given and have no effect."""
    given = [name for name in REMOVED if getattr(o, name)]
    return [f"{_flag(name)} has no effect, as in CrystFEL: {REMOVED[name]}" for name in given]


NOT_BUILT_IN = (
    "asapo-endpoint", "asapo-token", "asapo-beamtime", "asapo-source", "asapo-group", "asapo-stream",
    "asapo-output-stream", "asapo-wait-for-stream", "asapo-consumer-timeout", "asapo-acks", "prefix",
    "basename", "no-check-prefix", "temp-dir", "wait-for-file", "cpu-pin", "mille", "mille-dir",
    "mille-file", "max-mille-level", "int-diag",
    "harvest-file", "spectrum-file",
)  # fmt: skip
"""Options of indexamajig that this version does not have."""


def explain_unknown(argv: Sequence[str]) -> None:
    """Say of indexamajig's options that are missing here that they are missing, not misspelt.

    Raises
    ------
    OptionError
        For the first such option.
    """
    engines = tuple(name.lower() + "-" for name in ENGINES)
    for word in argv:
        name = word[2:].split("=")[0] if word.startswith("--") else "prefix" if word[:2] == "-x" else ""
        if name in NOT_BUILT_IN:
            raise OptionError(
                f"{word.split('=')[0]} is an option of indexamajig that gpuidx does not have yet"
            )
        if name.lower().startswith(engines):
            raise OptionError(
                f"--{name} belongs to an indexing engine of CrystFEL; gpuidx has its own: leave it out"
            )
