# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate defects of the kernels, and what must catch each; those of the host are in `host_mutants`.

A mutant is a text that stands in place of another in a copy of the folder of kernels.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from gpuidx.backends.cuda import sources


@dataclass(frozen=True)
class KernelMutant:
    """A defect in a copy of the kernels.

    Attributes
    ----------
    says
        What is wrong.
    old, new
        Texts; *old* stands in one file, *times* times, and each is replaced.
    caught_by
        What the proof must find, see `backends.cuda_proof.findings`.
    check
        Whether it takes the checks of the emulator; else the results alone show it.
    """

    says: str
    old: str
    new: str
    caught_by: str
    check: bool = False
    pixel: str = "i4"
    times: int = 1


IN_HEADER = KernelMutant(
    "a value at the limit is bad already", "value > morethan", "value >= morethan", "peaks"
)

KERNEL_MUTANTS = (
    IN_HEADER,
    KernelMutant(
        "no barrier between writing and reading the tile",
        "        tile[lane][k] = value;\n    }\n    __syncthreads();\n",
        "        tile[lane][k] = value;\n    }\n",
        "race", check=True,
    ),
    KernelMutant(
        "no barrier between writing and reading the warps' sums",
        "warp_total[warp] = sum;\n    __syncthreads();",
        "warp_total[warp] = sum;",
        "race", check=True,
    ),
    KernelMutant(
        "no barrier before the warps' sums are written again",
        "    __syncthreads();     // the next call writes warp_total again\n",
        "",
        "race", check=True,
    ),
    KernelMutant(
        "shared memory read that not every warp has written",
        "if (lane == 31) warp_total",
        "if (lane == 31 && sum > 0) warp_total",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "reads pixels behind the frame",
        "if (frame < n_frame && pixel < n_pixel) value",
        "if (frame < n_frame) value",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "reads frames behind the batch",
        "if (frame < n_frame && pixel < n_pixel) value",
        "if (pixel < n_pixel) value",
        "out of bounds", check=True,
    ),
    KernelMutant(
        "looks up the place of one pixel too many",
        "        if (pixel < n_pixel) {",
        "        if (pixel <= n_pixel) {",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "reads one word too many of the map of candidates",
        "if (quad < n_quad) word",
        "if (quad <= n_quad) word",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "sets bits without an atomic",
        "atomicOr(&own[position >> 5], 1u << (position & 31));",
        "own[position >> 5] |= 1u << (position & 31);",
        "race", check=True, times=2,
    ),
    KernelMutant(
        "sets bits by the wrong atomic",
        "atomicOr(&own[position >> 5]",
        "atomicMax(&own[position >> 5]",
        "peaks", times=2,
    ),
    KernelMutant(
        "threads without a ring end before the warp's vote",
        "    float average = 0.0f, high = FIRST_LIMIT",
        "    if (j >= n_ring || frame >= n_frame) return;\n    float average = 0.0f, high = FIRST_LIMIT",
        "divergence", check=True,
    ),
    KernelMutant(
        "adds up in another order",
        "for (int i = 0; i < AHEAD; i++)\n                if (value[i] < high",
        "for (int i = AHEAD - 1; i >= 0; i--)\n                if (value[i] < high",
        "rings", pixel="f4",
    ),
    KernelMutant(
        "contracts multiplication and addition",
        "total_sq = __fadd_rn(total_sq, __fmul_rn(value[i], value[i]));",
        "total_sq = __fmaf_rn(value[i], value[i], total_sq);",
        "rings", pixel="f4",
    ),
    KernelMutant(
        "one round too few",
        "round < ROUNDS;",
        "round < ROUNDS - 1;",
        "rings",
    ),
    KernelMutant(
        "a warp stops when one of its rings has settled",
        "__all_sync(ALL_LANES, high",
        "__any_sync(ALL_LANES, high",
        "rings",
    ),
    KernelMutant(
        "writes candidates behind the end of the list, into that of the next frame",
        "if (at < most) list[at] =",
        "list[at] =",
        "race", check=True,
    ),
    KernelMutant(
        "hides that the list was too short",
        "n_candidate[frame] = found;",
        "n_candidate[frame] = min(found, most);",
        "caps",
    ),
    KernelMutant(
        "reads records behind the end of the list",
        "n = min(n_candidate[frame], most);",
        "n = n_candidate[frame];",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "leaves records of candidates that are no peaks as they were",
        "    record->panel = -1;\n",
        "",
        "uninitialised", check=True,
    ),
    KernelMutant(
        "every pixel of a peak starts it again",
        "            if (inner && near < seed) return;",
        "            if (false) return;",
        "peaks",
    ),
    KernelMutant(
        "the queue may hold one pixel more than there is room for",
        "if (n_member == QUEUE) {",
        "if (n_member > QUEUE) {",
        "undefined", check=True,
    ),
    KernelMutant(
        "a peak that does not fit the queue is dropped",
        "atomicOr(&overflow[frame], 1);",
        "",
        "caps",
    ),
    KernelMutant(
        "looks for neighbours across the panel's border",
        "near_fs >= n_fs || near_ss",
        "near_fs > n_fs || near_ss",
        "peaks",
    ),
    KernelMutant(
        "drops the peaks of the first panel",
        "own[c].panel >= 0;",
        "own[c].panel > 0;",
        "peaks",
    ),
    KernelMutant(
        "adds half a pixel in single precision",
        "__dadd_rn((double)peak->fs, 0.5)",
        "(double)__fadd_rn(peak->fs, 0.5f)",
        "vectors",
    ),
)  # fmt: skip


def changed(text: str, old: str, new: str, times: int = 1) -> str:
    """*text* with *old* replaced, which must stand there so often."""
    assert text.count(old) == times, (
        f"{old!r} stands there {text.count(old)} times: the mutant is out of date"
    )
    return text.replace(old, new)


def copy_kernels(place: Path) -> Path:
    """A copy of the folder of kernels below *place*."""
    return Path(shutil.copytree(sources.folder(), place / "kernels"))


def change_kernels(folder: Path, mutant: KernelMutant) -> Path:
    """Put a defect into a copy; the file that has it."""
    files = [file for file in sorted(folder.glob("*.cu*")) if mutant.old in file.read_text()]
    assert len(files) == 1, f"{mutant.old!r} stands in {len(files)} files: the mutant is out of date"
    files[0].write_text(changed(files[0].read_text(), mutant.old, mutant.new, mutant.times))
    return files[0]
