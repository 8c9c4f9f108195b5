# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed pixels, whole and damaged, through the kernel that decodes them, in the emulator or not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from dectris.compression import decompress
from emulator import cuda_on_cpu

from gpuidx.backends.cuda import pixels, sources
from gpuidx.backends.cuda.kernels import compile_options
from gpuidx.formats.chunks import HEAD_BYTES
from gpuidx.formats.loops import as_bytes, starts_of_blocks
from gpuidx.model import Packed, block_count
from gpuidx.simulation.compress import compress

LZ4_BLOCK = pixels.defines()["BLOCK_BYTES"]
DAMAGES = ("bytes", "bits", "noise", "repeats", "cut", "places")


@cache
def module(width: int, mode: str = "check"):
    """The kernel for pixels of so many bytes; made anew where the sources are others."""
    folder = sources.folder()
    options = compile_options(folder, f"u{width}", pixels.defines())
    flags = [option for option in options if option.startswith(("-D", "-I"))]
    return cuda_on_cpu.Module.from_file(folder / pixels.FILE, options=flags, mode=mode)


@dataclass(frozen=True)
class Sent:
    """A chunk with one frame, and where its blocks are."""

    chunk: bytes
    starts: np.ndarray
    n_pixel: int
    dtype: np.dtype
    block: int


def sent(image: np.ndarray, block: int = 0) -> Sent:
    """An image as a sender compresses it, in blocks of so many pixels (0: the filter's own choice)."""
    chunk = compress(image, "bslz4", block)
    block = int.from_bytes(chunk[8:HEAD_BYTES], "big") // image.itemsize
    starts = np.empty(block_count(image.size, block) + 1, np.int32)
    starts_of_blocks(as_bytes(memoryview(chunk)), HEAD_BYTES, starts)
    return Sent(chunk, starts, image.size, image.dtype, block)


def packed(image: np.ndarray, block: int = 0) -> Packed:
    """An image as a worker hands it to a device."""
    one = sent(image, block)
    return Packed(
        data=np.frombuffer(one.chunk, np.uint8), starts=one.starts, dtype=one.dtype, block=one.block
    )


def counts(rng: np.random.Generator, n_pixel: int, dtype: str, mean: float) -> np.ndarray:
    """Pixels of a frame: photons, and some of the greatest and smallest values."""
    image = rng.poisson(mean, n_pixel).astype(dtype)
    limits = np.iinfo(dtype)
    image[rng.integers(0, n_pixel, 3)] = limits.max
    image[rng.integers(0, n_pixel, 2)] = limits.min
    return image


def decoded(one: Sent, mode: str = "check", schedule: int = 0) -> tuple[np.ndarray, bool]:
    """What the kernel makes of a chunk with no room behind it but up to a word: pixels, and whether damaged.

    Raises
    ------
    emulator.cuda_on_cpu.KernelError
        If it reads or writes where it must not.
    """
    fill = bytes(-len(one.chunk) % 4)  # rows begin at words, and the emulator puts arrays up to its guard
    row = np.frombuffer(one.starts.tobytes() + one.chunk + fill, np.uint8)
    about = np.array([[0, 0, len(one.chunk), one.block]], np.int32)
    image = cuda_on_cpu.empty(one.n_pixel, f"u{one.dtype.itemsize}")
    damaged = cuda_on_cpu.to_device(np.zeros(1, np.int32))
    given = [cuda_on_cpu.to_device(array, readonly=True) for array in (row, about)]
    arguments = (*given, image, damaged, np.int32(one.n_pixel), np.int32(len(row)))
    kernel = module(one.dtype.itemsize, mode).kernel("decode_bslz4")
    kernel((len(one.starts), 1), (32,), arguments, schedule=schedule)
    return image.a.view(one.dtype).copy(), bool(damaged.a[0])


def reference(one: Sent) -> np.ndarray | None:
    """What the library of the CPU makes of it; None if it refuses it."""
    try:
        raw = decompress(one.chunk, "bslz4", elem_size=one.dtype.itemsize)
    except (RuntimeError, ValueError, MemoryError, SystemError):
        return None
    return np.frombuffer(raw, one.dtype) if len(raw) == one.n_pixel * one.dtype.itemsize else None


def many_sizes(dtype: str) -> list[int]:
    """Pixels of frames that end in all ways: within a block and behind it, in whole words and not."""
    whole = LZ4_BLOCK // np.dtype(dtype).itemsize
    small = [8, 9, 15, 31, 32, 33, 40, 100, 255, 1000, whole // 2 + 13]
    return [*small, whole - 1, whole, whole + 1, whole + 8, whole + 47]


def small_frame(rng: np.random.Generator) -> Sent:
    """A small frame of any kind; few have whole blocks of the usual size, which take the emulator long."""
    dtype = str(rng.choice(["u1", "u2", "u4", "i2", "i4"]))
    n_pixel = int(rng.integers(16, 700) if rng.integers(20) else rng.integers(700, 10_000))
    block = int(rng.choice([0, 8, 16, 64, 128, 256]))
    return sent(counts(rng, n_pixel, dtype, float(rng.choice([0.0, 0.02, 0.3, 3, 300]))), block)


def damaged(rng: np.random.Generator, one: Sent, how: str) -> Sent:
    """A frame with damage in one block; lengths of blocks stay, for the host has checked them.

    *how* is one of `DAMAGES`; ``"places"`` is what no host sends: a list of blocks that leads anywhere.
    """
    if how == "places":
        starts = one.starts.copy()
        for _ in range(int(rng.integers(1, 3))):
            value = rng.choice([-(2**31), -5, -1, 0, 3, len(one.chunk), len(one.chunk) + 1, 2**31 - 1])
            starts[rng.integers(len(starts))] = rng.choice([value, rng.integers(0, len(one.chunk))])
        return replace(one, starts=starts)
    chunk = bytearray(one.chunk)
    number = int(rng.integers(len(one.starts) - 1))
    begin, end = int(one.starts[number]) + 4, int(one.starts[number + 1])
    if how == "cut":  # a shorter block, as its length says
        left = int(rng.integers(1, end - begin + 1))
        chunk[begin - 4 : end] = left.to_bytes(4, "big") + chunk[begin : begin + left]
        starts = one.starts.copy()
        starts[number + 1 :] -= end - begin - left
        return replace(one, chunk=bytes(chunk), starts=starts)
    if how == "noise":
        chunk[begin:end] = rng.bytes(end - begin)
    elif how == "repeats":  # lengths that go on and on
        first = int(rng.integers(begin, end))
        chunk[first:end] = bytes([int(rng.choice([0xF0, 0x0F, 0xFF]))]) + b"\xff" * (end - first - 1)
    else:
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(begin, end))
            chunk[at] = chunk[at] ^ 1 << int(rng.integers(8)) if how == "bits" else int(rng.integers(256))
    return replace(one, chunk=bytes(chunk))


def fault_of(seed: int, decode: Callable[..., tuple[np.ndarray, bool]] = decoded) -> tuple[str, str]:
    """Try one damaged frame; gives what came of it, and what is wrong with that.

    Parameters
    ----------
    seed
        Says which frame, and which damage.
    decode
        What stands for `decoded`.

    Raises
    ------
    emulator.cuda_on_cpu.KernelError
        If the kernel reads or writes where it must not.
    """
    rng = np.random.default_rng(seed)
    how = DAMAGES[seed % len(DAMAGES)]
    one = damaged(rng, small_frame(rng), how)
    image, is_damaged = decode(one, schedule=seed % 3)
    if how == "places":
        return ("rejected" if is_damaged else "decoded"), ""
    expected = reference(one)
    if is_damaged:
        return ("rejected" if expected is None else "left to the CPU"), ""
    if expected is None:
        return "decoded", "decoded what the CPU's library refuses"
    return "decoded", "" if np.array_equal(image, expected) else "other pixels than the CPU's library"
