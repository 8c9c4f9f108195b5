# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker and a device process hand to each other in a slot, and what they say about it.

On the CUDA path a slot holds, from its beginning to its end::

    message   | image, unless it can stay in the message | what was found
    size      | aligned                                   | FOUND.itemsize

The image may be compressed; then the places of its blocks lie behind the message, too.

so that no part ever overwrites another: a frame can be decoded again, or searched again, at any time until
its chunk is written over the message.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import MAX_PEAKS, MOST_LATTICES, PACKED_BLOCK, PACKED_PIXEL
from gpuidx.backends.unknown_cell_constants import MOST_TRIES_UNKNOWN, MOST_VECTORS
from gpuidx.geometry.detector import Geometry
from gpuidx.model import NO_LIMITS, Candidate, Found, Frame, Packed, PeakList, block_count
from gpuidx.units import energy_of_wavelength

DECODE, FINISH, WHOLE = 0, 1, 2
"""Steps that a worker is asked for: decode and keep the frame; go on with what was found; do everything."""

DECODED = "decoded"
"""A worker's answer to `DECODE`, with what had to be noted and a `Descriptor`; else the frame has ended."""

FOUND, ON_CPU = "found", "on the CPU"
"""Answers of a device process: what was found lies in the slot; a worker must do everything."""

BATCHES, FRAMES, PLACES, WORKING, FILLING = range(COUNTERS := 5)
"""Counters of a device process: batches that were begun, frames in them, frames that they had room for; µs
with a batch under way, and without one while frames wait for others to fill it."""

ALIGNMENT = 256
"""Bytes; of an image behind its message."""

FOUND_TYPE = np.dtype(
    [
        ("n_peak", "i8"),
        ("n_candidate", "i8"),
        ("n_tries", "i8"),
        ("fs", "f8", MAX_PEAKS),
        ("ss", "f8", MAX_PEAKS),
        ("intensity", "f8", MAX_PEAKS),
        ("panel", "i4", MAX_PEAKS),
        ("axes", "f8", (MOST_LATTICES, 3, 3)),
        ("shift", "f8", (MOST_LATTICES, 2)),
        ("score", "f8", MOST_LATTICES),
        ("n_searched", "i8"),
        ("vectors", "f4", (MOST_TRIES_UNKNOWN, 2, MOST_VECTORS, 4)),
    ]
)
"""A `Found` in a slot; ``n_candidate`` is -1 if no trials were made, ``n_searched`` the tries with axes."""

FOUND_BYTES = -(-FOUND_TYPE.itemsize // ALIGNMENT) * ALIGNMENT


class Descriptor(NamedTuple):
    """What a device process has to know of a decoded frame.

    Attributes
    ----------
    offset, dtype
        Where the image begins in the slot, bytes, and its kind of pixels, one of `model.PIXEL_TYPES`; its
        shape is the geometry's.
    wavelength
        Å.
    clen, shift_x, shift_y
        Camera length and shift of the detector, m.
    n_byte, block, starts
        Of an image that is compressed its bytes, pixels of a block, and where `Packed.starts` begin in the
        slot, bytes; all 0 for one that is not.
    series, series_slot
        The series whose pixel mask must be taken out, 0 for none, and the slot of the message that began it:
        see `gpuidx.tasks.mask_in`.
    low, high
        Its `Packed.limits`.
    """

    offset: int
    dtype: str
    wavelength: float
    clen: float
    shift_x: float
    shift_y: float
    n_byte: int = 0
    block: int = 0
    starts: int = 0
    series: int = 0
    series_slot: int = 0
    low: float = NO_LIMITS[0]
    high: float = NO_LIMITS[1]


def extra_bytes(geometry: Geometry) -> int:
    """Bytes that a slot must have besides those for a message."""
    return 2 * ALIGNMENT + 4 * geometry.slab_shape[0] * geometry.slab_shape[1] + FOUND_BYTES


def room_behind(place: memoryview, size: int) -> memoryview:
    """The part of a slot that an image may use behind a message of *size* bytes; it may be too small."""
    start = -(-size // ALIGNMENT) * ALIGNMENT
    return place[start : len(place) - FOUND_BYTES]


def laid_down(frame: Frame, place: memoryview, size: int) -> tuple[Frame, Descriptor | None]:
    """The frame with its image in the slot, moved there if need be, and what to tell the device process.

    Parameters
    ----------
    frame
        With an image, perhaps compressed.
    place
        The whole slot.
    size
        Bytes of the message.

    Returns
    -------
    frame, descriptor
        None instead of a descriptor, and the frame unchanged, if the image does not fit behind the message.
    """
    packed, image = frame.packed, frame.image
    if packed is not None:
        return _packed_down(frame, packed, place, size)
    assert image is not None
    offset = _offset(image, place)
    if offset is None:
        room = room_behind(place, size)
        if image.nbytes > len(room):
            return frame, None
        moved = np.frombuffer(room, image.dtype, image.size).reshape(image.shape)
        np.copyto(moved, image)
        frame, offset = replace(frame, image=moved), len(place) - FOUND_BYTES - len(room)
    return frame, Descriptor(offset, _letters(image.dtype), frame.wavelength, *frame.detector.given)


def _packed_down(
    frame: Frame, packed: Packed, place: memoryview, size: int
) -> tuple[Frame, Descriptor | None]:
    """The same for compressed pixels: places of blocks, then the pixels if they lie elsewhere."""
    room, offset = room_behind(place, size), _offset(packed.data, place)
    n_start = packed.starts.nbytes
    if n_start + (packed.data.nbytes if offset is None else 0) > len(room):
        return frame, None
    begin = len(place) - FOUND_BYTES - len(room)
    np.frombuffer(room, np.int32, len(packed.starts))[:] = packed.starts
    if offset is None:
        offset = begin + n_start
        data = np.frombuffer(room, np.uint8, packed.data.size, n_start)
        data[:] = packed.data
        frame = replace(frame, packed=replace(packed, data=data))
    return frame, Descriptor(
        offset, _letters(packed.dtype), frame.wavelength, *frame.detector.given,
        n_byte=packed.data.nbytes, block=packed.block, starts=begin, low=packed.limits[0],
        high=packed.limits[1],
    )  # fmt: skip


def _letters(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{dtype.itemsize}"


def _offset(image: NDArray[Any], place: memoryview) -> int | None:
    """Where an image begins in a slot, bytes; None if it does not lie there."""
    begin: int = np.frombuffer(place, np.uint8).__array_interface__["data"][0]
    offset: int = image.__array_interface__["data"][0] - begin
    return offset if 0 <= offset <= len(place) - FOUND_BYTES - image.nbytes else None


def frame_in(
    place: memoryview,
    serial: int,
    descriptor: Descriptor,
    geometry: Geometry,
    masked: NDArray[np.bool_] | None = None,
) -> Frame:
    """The frame that a worker has laid down in a slot; nothing is copied.

    *masked* is the pixel mask of its series, if that must be taken out.

    Raises
    ------
    ValueError
        If the detector, or the pixels, cannot be as the descriptor says.
    """
    height, width = geometry.slab_shape
    image, packed = None, None
    if descriptor.n_byte:
        packed = _packed_in(place, descriptor, height * width, masked)
    else:
        image = np.frombuffer(place, descriptor.dtype, height * width, descriptor.offset)
        image = image.reshape(height, width)
    return Frame(
        serial=serial,
        filename="",
        event="",
        image=image,
        packed=packed,
        wavelength=descriptor.wavelength,
        photon_energy=energy_of_wavelength(descriptor.wavelength),
        detector=geometry.detector(descriptor.clen, descriptor.shift_x, descriptor.shift_y),
    )


def _packed_in(
    place: memoryview, descriptor: Descriptor, n_pixel: int, masked: NDArray[np.bool_] | None
) -> Packed:
    dtype, n_byte, block = np.dtype(descriptor.dtype), descriptor.n_byte, descriptor.block
    if not 0 < block <= PACKED_BLOCK // dtype.itemsize or block % 8 or dtype.kind not in "ui":
        raise ValueError(f"blocks of {block} pixels of type {dtype}")
    n_start = block_count(n_pixel, block) + 1
    if n_byte + 4 * n_start > PACKED_PIXEL * n_pixel:
        raise ValueError(f"{n_byte} compressed bytes for {n_pixel} pixels")
    starts = np.frombuffer(place, np.int32, n_start, descriptor.starts)
    return Packed(
        data=np.frombuffer(place, np.uint8, n_byte, descriptor.offset),
        starts=starts,
        dtype=dtype,
        block=block,
        masked=masked,
        limits=(descriptor.low, descriptor.high),
    )


def _found_area(place: memoryview) -> Any:
    return np.frombuffer(place, FOUND_TYPE, 1, len(place) - FOUND_BYTES)[0]


def write_found(place: memoryview, found: Found) -> bool:
    """Put into a slot what was found in its frame; False if that is more than there is room for."""
    peaks, candidates = found.peaks, found.candidates
    if len(peaks) > MAX_PEAKS or len(candidates or ()) > MOST_LATTICES:
        return False
    area = _found_area(place)
    area["n_peak"], area["n_tries"] = len(peaks), found.n_tries
    area["n_candidate"] = -1 if candidates is None else len(candidates)
    for name in ("fs", "ss", "intensity", "panel"):
        area[name][: len(peaks)] = getattr(peaks, name)
    for number, candidate in enumerate(candidates or ()):
        for name in ("axes", "shift", "score"):
            area[name][number] = getattr(candidate, name)
    area["n_searched"] = 0 if found.axes is None else len(found.axes)
    if found.axes is not None:
        area["vectors"][: len(found.axes)] = found.axes
    return True


def read_found(place: memoryview) -> Found:
    """What `write_found` put there; copies, so the slot may be written over."""
    area = _found_area(place)
    n_peak, n_candidate, n_searched = (int(area[name]) for name in ("n_peak", "n_candidate", "n_searched"))
    return Found(
        peaks=PeakList(**{name: area[name][:n_peak].copy() for name in ("fs", "ss", "intensity", "panel")}),
        candidates=None if n_candidate < 0 else tuple(_candidate(area, n) for n in range(n_candidate)),
        n_tries=int(area["n_tries"]),
        axes=area["vectors"][:n_searched].copy() if n_searched else None,
    )


def _candidate(area: Any, number: int) -> Candidate:
    return Candidate(
        axes=area["axes"][number].copy(),
        shift=area["shift"][number].copy(),
        score=float(area["score"][number]),
    )
