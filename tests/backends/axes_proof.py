# SPDX-License-Identifier: GPL-3.0-or-later
"""A short proof that axes from the pretended device are right, and defects that it must see."""

import gc
from functools import cache

import numpy as np
from backends.device_axes import are_the_same, axes_of, cpu_axes
from backends.kernel_mutants import KernelMutant
from backends.peak_lists import simulated
from backends.ways import DEVICE
from numpy.typing import NDArray

from gpuidx.backends.unknown_cell_constants import RETRY_SHARE_UNKNOWN

RANGE = (5.0, 6.0)
"""One band of lengths, about the shortest axis of the cell."""

AXES_MUTANTS = (
    KernelMutant(
        "the second try has all peaks",
        "        n_used -= n_used / RETRY_SHARE_UNKNOWN;\n",
        "",
        "axes",
    ),
    KernelMutant(
        "the keys come while their number is looked at",
        "    __syncthreads();             // the next keys change n\n",
        "",
        "race", check=True,
    ),
    KernelMutant(
        "the limit of the wanted keys sinks too far",
        "if (buffer->keys[most - 1] < buffer->limit) buffer->limit = buffer->keys[most - 1];",
        "buffer->limit = buffer->keys[most / 8];",
        "axes",
    ),
    KernelMutant(
        "axes that are the same are kept",
        "if (own[i / BAND_SAMPLED].n_vector > 0 && is_same_axis(all[i], best)) all[i].w = LOST;",
        "if (i == number) all[i].w = LOST;",
        "axes",
    ),
)  # fmt: skip


@cache
def proof_lists() -> tuple[NDArray, ...]:
    """Peaks of two frames."""
    return simulated("cys", 4, n_peaks=20).q, simulated("cys", 5, n_peaks=10).q


@cache
def expected(number: int, attempt: int, kind: int) -> NDArray:
    """Axes of the CPU for a list and a try."""
    q = proof_lists()[number]
    return cpu_axes(q[: len(q) - attempt * (len(q) // RETRY_SHARE_UNKNOWN)], kind, RANGE)


def findings(check: bool = False) -> set[str]:
    """What is wrong with the axes: nothing, if they are as they should be.

    ``"axes"``: these are not the CPU's; the kinds of reports of the emulator, and names of exceptions.
    With *check* a single list is taken.
    """
    import cupy

    found: set[str] = set()
    lists = proof_lists()[1:] if check else proof_lists()
    DEVICE.reset()
    DEVICE.set(order="lazy", check=check)
    try:
        with cupy.cuda.using_allocator(None):  # each array with a guard of its own
            results = axes_of(lists, RANGE, retry=True)
        for number, axes in enumerate(results, 1 if check else 0):
            for attempt, kind in np.ndindex(2, 2):
                if axes is None or not are_the_same(axes[attempt, kind], expected(number, attempt, kind)):
                    found.add("axes")
    except Exception as error:
        found |= {type(error).__name__, *_kinds()}
        DEVICE.reset()  # before memory is given back, which a spoiled device refuses
    found |= _kinds()
    DEVICE.reset()
    gc.collect()
    DEVICE.set(order="lazy", check=False)
    return found


def _kinds() -> set[str]:
    """Kinds of the emulator's reports."""
    return {message.split(": ")[1] for message in DEVICE.messages}
