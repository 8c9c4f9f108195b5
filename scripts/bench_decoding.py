# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding of streamed 4-megapixel frames: CPU time, beside that of the decompressor alone, in turns.

And what a worker of a GPU run does with a blank, its pixels decoded, or left compressed for the device.

Four messages of different lengths, again and again; the first ones, which HDF5 has to read, count as well.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import h5py
import numpy as np
from bench_common import FILE_GEOMETRY, PEAK_OPTIONS, SIZE, load
from dectris.compression import decompress

from gpuidx import handover
from gpuidx.arguments import parse
from gpuidx.formats.hdf5_messages import Hdf5Messages
from gpuidx.formats.setting import Setting
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.model import Found, Message, PeakList
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.encode_hdf5 import encode

HEADERS = {"/entry/energy": 9500.0, "/entry/clen": 120.0}

HEAD = 8192
"""Bytes; the text of a blank is shorter."""

GOAL = 1.3
"""Times the decompressor alone, for bitshuffle-LZ4."""


def decoding(n_round: int) -> None:
    """Print a line for each compression of an HDF5 message with one frame of uint32."""
    print(f"\nDecoding of an HDF5 message, 4M uint32, {load()}")
    print(f"\n{'':46s} {'gpuidx':>9s} {'alone':>10s} {'ratio':>8s}   goal (ms)")
    geometry, options = _run()
    decoder = Hdf5Messages(Setting.of(geometry, options))
    rng = np.random.default_rng(3)
    images = [rng.poisson(level, (1, SIZE, SIZE)).astype(np.uint32) for level in (2.8, 3.0, 3.2, 3.4)]
    for compression, goal in (("bslz4", f"at most {GOAL}"), ("lz4", ""), ("bszstd", "")):
        sent = [encode(image, HEADERS, data="/entry/data", compression=compression) for image in images]
        messages, chunks = cycle([_message(data) for data in sent]), cycle([_chunk(data) for data in sent])
        ours, alone = _in_turns(
            lambda messages=messages: _as_a_worker(decoder, next(messages)),
            lambda chunks=chunks, name=compression: decompress(next(chunks), name, elem_size=4),
            n_round,
        )
        print(f"{compression:46s} {ours:9.3f} {alone:10.2f} {ours / alone:8.2f}   {goal}", flush=True)


def blanks(n_round: int) -> None:
    """Print a line for each level of photons: a worker's CPU time for a frame without peaks, both ways."""
    print(f"\nA blank that a device searches, HDF5 with bitshuffle-LZ4, 4M uint16, {load()}")
    print(f"\n{'photons a pixel, compression':46s} {'decoded':>9s} {'left so':>10s} {'saved':>8s}   (ms)")
    geometry, options = _run()
    rng = np.random.default_rng(4)
    for level in (0.02, 0.3, 3.0):
        image = rng.poisson(level, (1, SIZE, SIZE)).astype(np.uint16)
        data = encode(image, HEADERS, data="/entry/data", compression="bslz4")
        ratio = image.nbytes / len(_chunk(data))
        plain, packs = (_blank(Pipeline(options, geometry, None), data, packs) for packs in (False, True))
        ours, left = _in_turns(plain, packs, n_round)
        name = f"{level:g}, {ratio:.1f} times"
        print(f"{name:46s} {ours:9.3f} {left:10.3f} {ours - left:8.3f}", flush=True)


def _blank(pipeline: Pipeline, data: bytes, packs: bool) -> Callable[[], None]:
    """Both steps of a worker of a run with a device, for a frame in which that finds no peaks."""
    pipeline.packs = packs
    none = np.zeros(0)
    found = Found(
        peaks=PeakList(fs=none, ss=none, panel=none.astype(np.int32), intensity=none),
        candidates=(),
        n_tries=0,
    )
    slot = memoryview(bytearray(data + bytes(handover.extra_bytes(pipeline.geometry))))

    def work() -> None:
        slot[:HEAD] = data[:HEAD]  # over which the text of the last chunk was written
        message = Message(serial=1, filename="", event="//", data=slot[: len(data)])
        pipeline.decoder.frame_count(message)
        frame, _ = pipeline.lay_down(message, slot, len(data))
        pipeline.complete(frame, message, slot, found)

    return work


def _run() -> tuple[Geometry, Options]:
    geometry = parse_geometry(FILE_GEOMETRY, "bench.geom")
    words = ["-g", "bench.geom", "-o", "bench.stream", "-i", "bench.lst", "--indexing=none", *PEAK_OPTIONS]
    return geometry, parse(Options, words, "bench", "")


def _message(data: bytes) -> Message:
    return Message(serial=1, filename="", event="", data=memoryview(bytearray(data)))


def _chunk(data: bytes) -> bytes:
    with h5py.File(io.BytesIO(data)) as file:
        chunk: bytes = file["/entry/data"].id.read_direct_chunk((0, 0, 0))[1]
    return chunk


def _as_a_worker(decoder: Hdf5Messages, message: Message) -> None:
    """What a worker does with a message: see how many frames it has, and decode the only one."""
    decoder.frame_count(message)
    decoder.decode(message)


def _in_turns(first: Callable[[], Any], second: Callable[[], Any], n_round: int) -> tuple[float, float]:
    """Median CPU times of two functions, ms; one after the other, so that other load meets both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(n_round + 1):
        for work, kept in zip((first, second), times, strict=True):
            begun = time.process_time_ns()
            work()
            kept.append((time.process_time_ns() - begun) / 1e6)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


if __name__ == "__main__":
    n_round = int(sys.argv[1]) if sys.argv[1:] else 100
    decoding(n_round)
    blanks(n_round)
