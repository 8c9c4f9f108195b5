# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed pixels that the device decodes against those of the CPU's library, whole and damaged."""

from collections import Counter
from itertools import product

import numpy as np

from gpu_check.needs import has_compression
from gpu_check.plan import Plan
from gpu_check.report import Report
from gpuidx.backends.cuda.pixels import PixelUpload

TYPES = ("u1", "u2", "u4", "i1", "i2", "i4")
MEANS = (0.0, 0.02, 3.0, 2000.0)
"""Photons a pixel: from what nearly vanishes to what cannot be compressed."""

BLOCKS = (8, 24, 1000)
"""Pixels of a block, besides bitshuffle's own choice."""

N_FEW = 12
"""Damaged chunks that compute-sanitizer sees."""

UNTOUCHED = 0xA5
"""What memory beside a frame's pixels is filled with; it must stay so."""


class Decoder:
    """Decodes chunks on the current device, one at a time, and sees that nothing beside them is written."""

    def __init__(self) -> None:
        import cupy

        self._kernels = PixelUpload()
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def __call__(self, one: object, schedule: int = 0) -> tuple[np.ndarray, bool]:
        """Pixels of a `backends.packed_pixels.Sent`, and whether they are damaged; *schedule* means nothing.

        Raises
        ------
        RuntimeError
            If the device fails, or pixels of another frame were written.
        """
        import cupy

        row = np.frombuffer(one.starts.tobytes() + one.chunk + bytes(-len(one.chunk) % 4), np.uint8)
        dtype = np.dtype(f"u{one.dtype.itemsize}")
        about = np.array([[0, 1, len(one.chunk), one.block]], np.int32)  # into the second of three rows
        rows = np.full((3, one.n_pixel * dtype.itemsize), UNTOUCHED, np.uint8).view(dtype)
        with self._stream:
            images, damaged = cupy.asarray(rows), cupy.zeros(3, np.int32)
            self._kernels.kernels_for(dtype).launch(
                "decode_bslz4", (len(one.starts), 1), self._stream, packed=cupy.asarray(row[None]),
                about=cupy.asarray(about), images=images, damaged=damaged, n_pixel=one.n_pixel,
                stride=len(row),
            )  # fmt: skip
            before, found, behind = images.get(stream=self._stream)
            flags = damaged.get(stream=self._stream)
        if flags[0] or flags[2] or not (np.array([before, behind]).view(np.uint8) == UNTOUCHED).all():
            raise RuntimeError("the pixels of another frame were written")
        return found.view(one.dtype), bool(flags[1])


def check_all(report: Report, plan: Plan, device: int) -> None:
    """Compare whole frames of all types and sizes."""
    report.title("compressed pixels: CUDA against the CPU's library")
    results = report.data["packed"] = {}
    if not _begin(report, device):
        return
    from backends.packed_pixels import counts, many_sizes, sent

    rng, decode, differing, n_frame = np.random.default_rng(3), Decoder(), [], 0
    for dtype in TYPES:
        sizes = [(n, 0) for n in many_sizes(dtype)] + [(2 * block + 29, block) for block in BLOCKS]
        for (n_pixel, block), mean in list(product(sizes, MEANS))[:: plan.packed.every]:
            image = counts(rng, n_pixel, dtype, mean)
            found, is_damaged = decode(sent(image, block))
            n_frame += 1
            if is_damaged or not np.array_equal(found, image):
                differing.append(f"{dtype}, {n_pixel} pixels, blocks of {block or 'usual'}, mean {mean:g}")
    results |= {"frames": n_frame, "differences": differing}
    for text in differing[:10]:
        report.fail(f"compressed pixels: {text}")
    report.line(f"{n_frame} frames of {', '.join(TYPES)}: {len(differing) or 'no'} difference(s)")


def check_damage(report: Report, plan: Plan, device: int) -> None:
    """Damaged chunks: each is rejected or decoded as the library does, and the device lives on."""
    report.title("damaged compressed pixels")
    results = report.data["damage"] = {}
    if not _begin(report, device):
        return
    from backends.packed_pixels import fault_of

    decode, outcomes, faults = Decoder(), Counter(), []
    for seed in range(plan.packed.damaged):
        outcome, fault = fault_of(seed, decode)
        outcomes[outcome] += 1
        if fault:
            faults.append(f"chunk {seed}: {fault}")
    results |= {"outcomes": dict(outcomes), "faults": faults}
    for text in faults[:10]:
        report.fail(f"damaged pixels: {text}")
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    report.line(
        f"{plan.packed.damaged} damaged chunks: {told}; {len(faults) or 'no'} fault(s); no error of CUDA"
    )


def check_few(device: int) -> list[str]:
    """Some damaged chunks for compute-sanitizer; what is wrong with what came of them."""
    import cupy
    from backends.packed_pixels import fault_of

    cupy.cuda.Device(device).use()
    decode = Decoder()
    faults = [fault_of(seed, decode)[1] for seed in range(N_FEW)]
    return [f"damaged chunk: {fault}" for fault in faults if fault]


def _begin(report: Report, device: int) -> bool:
    """Use the device; False where packages are missing."""
    import cupy

    cupy.cuda.Device(device).use()
    return has_compression(report)
