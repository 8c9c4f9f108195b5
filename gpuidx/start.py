# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at, decided and said before a run opens anything."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuidx import __version__
from gpuidx.cell import UnitCell
from gpuidx.device_pool import most_frames
from gpuidx.errors import GeometryError, OptionError
from gpuidx.flow.placement import ANYWHERE, SYSTEM, Placement, node_of_device, place, read_topology
from gpuidx.flow.platform import memory_available, usable_cpus
from gpuidx.geometry import Geometry
from gpuidx.geometry.hierarchy import Hierarchy
from gpuidx.geometry.streaming import check_mask_files, streaming_problems
from gpuidx.handover import extra_bytes
from gpuidx.indexing.solutions import read_solutions
from gpuidx.options import PEAKS_SENT, Options, notices
from gpuidx.selection import Choice
from gpuidx.sources.asapo.hits import check_library, source_of_hits
from gpuidx.sources.listing import check_list
from gpuidx.sources.receivers import slots_of_receivers

log = logging.getLogger(__name__)

SMALLEST_SLOT = 4 << 20
"""Bytes of a slot for small messages; the chunk of a frame must fit too."""

SHARE_FOR_DEVICES = 0.5
"""Share of the memory left that slots for devices may take where the user does not say."""

THREADS_OF_A_RECEIVER = 2
"""Its own, and one of libzmq's."""

COMPILING = "compiling for this machine, once (a minute or two); 'gpuidx warmup' does it ahead"
PREPARING = "preparing the CUDA device; this takes longest after an installation, when kernels are compiled"


def message_bytes(options: Options, geometry: Geometry) -> int:
    """Bytes of the largest message: four a pixel and room for the other values, unless the user says."""
    if options.slot_size:
        return int(options.slot_size * 1e6)
    if not options.is_streamed or not options.image_data:
        return SMALLEST_SLOT
    return SMALLEST_SLOT + 4 * geometry.slab_shape[0] * geometry.slab_shape[1]


def slot_bytes(options: Options, geometry: Geometry, n_device: int) -> int:
    """Bytes of a slot: for a message and, with devices, what else lies there."""
    return message_bytes(options, geometry) + (extra_bytes(geometry) if n_device else 0)


def frame_slots(options: Options) -> int:
    """Slots that messages leave to the frames of those with several: one for each worker."""
    if not options.is_streamed or options.data_format not in ("auto", "hdf5"):
        return 0
    return min(options.jobs, options.slots - 1) if options.slots else options.jobs


def slot_count(options: Options, n_device: int, size: int) -> int:
    """Number of slots of *size* bytes, unless the user says.

    Some for each worker; with devices also as many as these may have, as far as half of the memory goes.

    Raises
    ------
    OptionError
        If there are fewer than receivers need.
    """
    receiving = slots_of_receivers(options)
    if options.slots:
        if receiving > options.slots - frame_slots(options):
            raise OptionError(
                f"--slots is {options.slots}; with --zmq-receivers={options.zmq_receivers} it must be at "
                f"least {receiving + options.jobs}"
            )
        return options.slots
    least = 4 + 4 * options.jobs + receiving
    wanted = least + n_device * most_frames(options)
    room = memory_available()
    return wanted if room is None else max(least, min(wanted, int(SHARE_FOR_DEVICES * room) // size))


def check_inputs(options: Options, geometry: Geometry, cell: UnitCell | None) -> None:
    """See what the options and the files together cannot do.

    Raises
    ------
    OptionError, GeometryError, SourceError
        Before anything is opened.
    """
    if options.asapo_output_stream:
        check_library()
    if options.input is not None:
        check_list(options.input)
    check_mask_files(geometry, read_masks=options.mask_data)
    if options.is_streamed:
        wanted = {"read_masks": options.mask_data, "read_images": options.image_data}
        for problem in streaming_problems(geometry, **wanted, data_format=options.data_format):
            raise GeometryError(geometry.file, None, problem)
    if options.peaks in PEAKS_SENT and options.data_format != "jungfraujoch" and not geometry.peak_list:
        raise GeometryError(geometry.file, None, f"--peaks={options.peaks} needs 'peak_list = NAME' here")
    if options.mille:
        Hierarchy(geometry, options.max_mille_level)
    if options.consensus_cell and cell is not None and cell.parameters is not None:
        raise OptionError(f"--consensus-cell finds a cell, but {options.pdb} (-p) gives one; leave out one")


def devices_for(options: Options, choice: Choice) -> tuple[int, ...]:
    """The devices of *choice*, if there is anything for them to do; else the workers do it all."""
    return choice.devices if options.device_searches else ()


def placement(options: Options, choice: Choice, system: Path = SYSTEM) -> Placement:
    """The CPUs of each process, with ``--cpu-pin``: one for each worker and device process.

    Raises
    ------
    OptionError
        If there are not as many.
    """
    if not options.cpu_pin:
        return ANYWHERE
    devices = devices_for(options, choice)
    cpus, needed = usable_cpus(), options.jobs + len(devices)
    if cpus is None:
        raise OptionError("--cpu-pin: processes cannot be pinned to CPUs on this system; leave it out")
    if needed > len(cpus):
        raise OptionError(
            f"--cpu-pin needs a CPU for each of {needed} processes, and there are {len(cpus)}; "
            "give a smaller -j, or no --cpu-pin"
        )
    nodes = [node_of_device(choice.addresses.get(number, ""), system) for number in devices]
    n_thread = THREADS_OF_A_RECEIVER * (1 + options.zmq_receivers)  # main is one, too
    return place(read_topology(cpus, system), options.jobs, nodes, n_thread)


def announce(
    options: Options, geometry: Geometry, cell: UnitCell | None, choice: Choice, placed: Placement
) -> None:
    """Say what runs, and what the user should know about it."""
    log.info("gpuidx %s", __version__)
    for warning in (*notices(options), *geometry.warnings, *(cell.warnings if cell else ())):
        log.warning("%s", warning)
    if options.asapo_output_stream:
        log.info("hits are sent on to ASAP::O, data source %r", source_of_hits(options.asapo_source or ""))
    if options.fromfile_input_file is not None:
        log.info("%s", read_solutions(options.fromfile_input_file).line())
    elif options.engine_names:
        names = ", ".join(options.engine_names)
        log.info("--indexing=%s: gpuidx has one engine of its own, which is used instead", names)
    if options.mille and not (options.does_index and options.refine):
        log.warning("--mille writes nothing: it needs crystals that are refined")
    if options.makes_trials and (cell is None or cell.parameters is None):
        what = "no target cell" if cell is None else f"{options.pdb} has no cell parameters"
        log.info("%s: frames are indexed without one, until enough agree on a cell to propose it", what)
        if devices_for(options, choice):
            log.info("without a cell the device finds axes of the lattice, the workers make cells of them")
    for line in (*choice.warnings, choice.line):
        log.info("%s", line)
    if placed != ANYWHERE:
        log.info("CPUs: %s", placed)
    if choice.devices and not devices_for(options, choice):
        filters = ", with a filter," if options.searches and options.filters else ""
        log.info(
            "--peaks=%s%s leaves nothing for the device to do; the CPU does it all", options.peaks, filters
        )
    if options.filter_noise:
        log.warning(
            "--filter-noise leaves no peaks: like CrystFEL's, it makes every pixel 0 that is not at a border"
        )


@contextmanager
def patience(text: str) -> Iterator[None]:
    """Tell the user, if starting takes long, what the wait is for."""
    timer = threading.Timer(3.0, log.info, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
