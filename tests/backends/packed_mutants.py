# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate defects of the kernel that decodes compressed pixels; see `kernel_mutants`."""

import numpy as np
from backends.kernel_mutants import KernelMutant
from backends.packed_pixels import DAMAGES, counts, decoded, fault_of, sent
from emulator.cuda_on_cpu import KernelError

PACKED_MUTANTS = (
    KernelMutant(
        "a match is copied before its source is written",
        "        __syncwarp();                            // what is copied has been written\n", "",
        "race",
    ),
    KernelMutant(
        "literals are copied from behind the chunk",
        "|| length > n_in - from || length > n_out - to)", "|| length > n_out - to)",
        "out of bounds",
    ),
    KernelMutant(
        "a match may begin before the block",
        "offset == 0 || offset > to ||", "offset == 0 ||",
        "out of bounds or undefined or uninitialised",
    ),
    KernelMutant(
        "the period of a short match is wrong", "step = 32 - 32 % offset", "step = 32",
        "other pixels than the CPU's library",
    ),
    KernelMutant(
        "bits change places the wrong way", "| (other >> step & low)", "| (other & low)",
        "other pixels than the CPU's library",
    ),
)  # fmt: skip


def findings(n_case: int = 20 * len(DAMAGES)) -> set[str]:
    """What whole and damaged chunks show: kinds of faults that the emulator reports, and wrong results.

    It ends with the first fault.
    """
    rng = np.random.default_rng(5)
    try:
        for dtype, n_pixel in (("u2", 333), ("u1", 700), ("u4", 129)):
            image = counts(rng, n_pixel, dtype, 0.3)
            found, is_damaged = decoded(sent(image))
            if is_damaged or not np.array_equal(found, image):
                return {"other pixels than the CPU's library"}
        for seed in range(n_case):
            _, fault = fault_of(seed)
            if fault:
                return {fault}
    except KernelError as error:
        return error.kinds
    return set()
