# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not fit together, or is no sensible value."""

import math
from dataclasses import fields

from gpuidx.errors import OptionError
from gpuidx.options.asapo import AsapoOptions
from gpuidx.options.engines import ENGINES, FILE, is_method
from gpuidx.options.every import EveryOption, flag
from gpuidx.options.peaks import PEAKS_SENT
from gpuidx.options.running import MOST_BATCH
from gpuidx.options.source import InputOptions, LinkOptions


def check_sources(o: EveryOption) -> None:
    """See that there is one source, and what it needs.

    Raises
    ------
    OptionError
        For the first fault.
    """
    if not o.geometry:
        raise OptionError("no geometry file; give one with -g")
    if not o.output:
        raise OptionError("no output file; give one with -o")
    sources = {
        "--input": o.input is not None,
        "--zmq-input": bool(o.zmq_input),
        "--asapo-endpoint": o.asapo_endpoint is not None,
    }
    wanted = [name for name, is_given in sources.items() if is_given]
    if len(wanted) > 1:
        raise OptionError(f"{' and '.join(wanted)} exclude each other; give one")
    if not wanted:
        raise OptionError(
            "no input; give a list of files with -i, an address with --zmq-input, or --asapo-endpoint"
        )
    check_links(o)
    _check_receivers(o)
    _check_asapo(o)


SERIES_FORMATS = ("dectris-v1", "dectris-v2", "jungfraujoch", "lclstreamer")
"""Whose frames need the message with which their series began."""


def _check_receivers(o: InputOptions) -> None:
    if not o.zmq_receivers:
        return
    given = f"--zmq-receivers={o.zmq_receivers}"
    if o.zmq_request is None and not o.zmq_pull:
        raise OptionError(
            f"{given} needs --zmq-request or --zmq-pull; what is published comes to every subscriber whole"
        )
    if o.zmq_receivers == 1:
        return
    if o.zmq_bind:
        raise OptionError(f"{given}: an address can be bound to once; give 1, or no --zmq-bind")
    if o.data_format in SERIES_FORMATS:
        raise OptionError(
            f"{given}: frames of --data-format={o.data_format} need the start of their series, which "
            "comes to one receiver; give 1"
        )


def _check_asapo(o: EveryOption) -> None:
    needed = ("asapo_beamtime", "asapo_source", "asapo_group", "asapo_stream")
    if o.asapo_endpoint is None:
        for field in fields(AsapoOptions):
            if getattr(o, field.name) != field.default:
                raise OptionError(f"{flag(field.name)} needs --asapo-endpoint")
        return
    if not o.asapo_endpoint:
        raise OptionError("--asapo-endpoint is empty; it is HOST:PORT")
    for name in needed:
        if not getattr(o, name):
            raise OptionError(f"--asapo-endpoint needs {flag(name)}")


def check_links(o: LinkOptions) -> None:
    """See that there is one way to receive messages, if there is a sender.

    Raises
    ------
    OptionError
        For the first fault.
    """
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
    "slots": 0, "slot_size": 0, "task_limit": 0.001, "rank": 0,
    "status_interval": 0.1, "zmq_requests": 1, "zmq_receivers": 0, "zmq_timeout": 0.001,
    "no_data_timeout": 0.001,
    "max_frames": 1, "serial_start": 0, "wait_for_file": -1, "advise_after": 1, "gpu_batch": 0,
    "gpu_memory": 0, "gpu_max_latency": 0, "max_mille_level": 0,
    "asapo_resend_after": 1, "asapo_consumer_timeout": 1, "asapo_readers": 1,
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


def check_least(o: LinkOptions) -> None:
    """See that no number is too small, nor that of requests too large.

    Raises
    ------
    OptionError
        For the first fault.
    """
    for name, least in _AT_LEAST.items():
        value = getattr(o, name, None)
        if value is not None and not value >= least:
            raise OptionError(f"{flag(name)} is {value:g}; it must be at least {least:g}")
    if o.zmq_requests > _MOST_REQUESTS:
        raise OptionError(f"--zmq-requests is {o.zmq_requests}; it must be at most {_MOST_REQUESTS}")


def check_values(o: EveryOption) -> None:
    """See that each value is one that it can have.

    Raises
    ------
    OptionError
        For the first fault.
    """
    check_least(o)
    for field in fields(o):
        value = getattr(o, field.name)
        if type(value) is int and abs(value) > _MOST_INTEGER:
            raise OptionError(f"{flag(field.name)} is {value}; it must be at most {_MOST_INTEGER}")
    for name in _FINITE:
        value = getattr(o, name)
        if value is not None and not math.isfinite(value):
            raise OptionError(f"{flag(name)} is {value:g}; it must be a finite number")
    for name in _ABOVE_ZERO:
        value = getattr(o, name)
        if value is not None and not value > 0:
            raise OptionError(f"{flag(name)} is {value:g}; it must be above 0")
    if math.isnan(o.push_res):
        raise OptionError("--push-res is nan; it is a number of nm⁻¹")
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
            raise OptionError(f"{flag(name)} needs rising radii, 0 < R1 <= R2 < R3 <= 100")
    for header in o.copy_header:
        if not header.isprintable():
            raise OptionError(f"--copy-header={header!r} holds a character that no stream can hold")


def check_support(o: EveryOption) -> None:
    """See that options fit together and name methods that there are.

    Raises
    ------
    OptionError
        For the first fault.
    """
    if o.peaks == "msgpack" and not o.is_streamed:
        raise OptionError(
            "--peaks=msgpack takes peaks from messages; it needs --zmq-input or --asapo-endpoint"
        )
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
    known = {"none", "rings", "prof2d", "cen", "nocen", "sat", "nosat", "grad", "nograd"}
    if words[0] not in ("rings", "prof2d", "none") or not set(words) <= known:
        raise OptionError(f"--integration={o.integration} is not understood; for instance rings-nocen-nosat")
    if o.indexing == "":
        raise OptionError("--indexing names no method; give none, or no --indexing")
    for name in o.engine_names:
        if not is_method(name):
            raise OptionError(f"--indexing={name} is not a method; known are none, {', '.join(ENGINES)}")
    if FILE in o.engine_names and len(o.engine_names) > 1:
        raise OptionError(
            f"--indexing={o.indexing}: file cannot be combined with other methods; give it alone"
        )
    if FILE in o.engine_names and o.fromfile_input_file is None:
        raise OptionError("--indexing=file needs the file with the crystals: --fromfile-input-file=FILE")
    if FILE not in o.engine_names and o.fromfile_input_file is not None:
        raise OptionError("--fromfile-input-file needs --indexing=file")
