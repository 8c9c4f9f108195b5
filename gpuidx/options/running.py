# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes, memory, devices."""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import BASIC, RUN, devices

MOST_BATCH = 128
"""Frames in a batch of a CUDA device."""

USUAL_BATCH = 32
"""Frames that a device works on together if it has memory for them: as many as lie side by side."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Processes, memory, what is shown."""

    jobs: int = option(1, "-j", group=BASIC, metavar="N", help="worker processes")
    cpu_pin: bool = option(
        False, group=BASIC, help="a CPU of its own for each worker and device process, all near the device"
    )
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
