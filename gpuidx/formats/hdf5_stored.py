# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of HDF5 data sets, fetched where they lie and decompressed outside HDF5 wherever that is possible.

HDF5 is asked where a chunk lies, and `gpuidx.formats.chunks` makes an array of its bytes: that is faster than
HDF5's own reading, holds no lock, and a damaged bitshuffle chunk does not end the process, as it may in
HDF5's filter.  Other filters and types are left to HDF5, which must have hdf5plugin for some.
"""

import itertools
import math
import zlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import MOST_BYTES, Chunk, checked, decompressed
from gpuidx.formats.hdf5_datasets import DataSet, Filters
from gpuidx.formats.hdf5_places import InFile, Place
from gpuidx.formats.hdf5_text import REFERENCE, text_at

GZIP, SHUFFLE, LZ4, BITSHUFFLE = 1, 2, 32004, 32008
"""Numbers of filters."""

OWN_FILTERS = 256
"""Filters with numbers from here on are not HDF5's own; hdf5plugin has them."""

MOST_CHUNKS = 1 << 16
"""Of one frame that are taken one by one; for more HDF5 is faster, and no sender makes them so small."""

Chosen: TypeAlias = tuple[int | slice, ...]
"""Part of a data set: an index, or a slice from 0 on, in each dimension."""


class _Piece(NamedTuple):
    """A chunk: where it begins, what of it is wanted, and where that goes."""

    corner: tuple[int, ...]
    wanted: Chosen
    goal: tuple[slice, ...]


class Located(NamedTuple):
    """A part of a data set that lies in one piece, which has been found and checked, not decompressed.

    Attributes
    ----------
    source
        The bytes of the piece, or its values.
    wanted
        What of it is the part.
    key
        By which the decompressed piece is kept, since it holds more than this part; None if it is not.
    """

    source: Chunk | NDArray[Any]
    wanted: Chosen
    key: Hashable = None


class _NotOursError(Exception):
    """The chunk is for HDF5 to read."""


class Stored:
    """Reads parts of data sets; keeps the last chunk that holds several frames.

    Attributes
    ----------
    place
        Where the data sets lie.
    """

    def __init__(self) -> None:
        self.place: Place = InFile()
        self._key: Hashable = None
        self._chunk: NDArray[Any] | None = None

    def locate(self, data: DataSet, chosen: Chosen) -> Located | None:
        """A part that lies in one piece, checked; None if it is to be put together, by `into`.

        Raises
        ------
        Rejected
            If the bytes are damaged or lie outside the message.
        """
        if not data.is_plain or data.shape is None:
            return None
        raw = self.place.contiguous(data, math.prod(data.shape) * data.dtype.itemsize)
        if raw is not None:
            return Located(np.frombuffer(raw, data.dtype).reshape(data.shape), chosen)
        pieces = _pieces(data, chosen)
        if pieces is None or len(pieces) != 1:
            return None
        try:
            return self._locate(data, pieces[0])
        except _NotOursError:
            return None

    def array(self, located: Located) -> NDArray[Any]:
        """The values of a part, perhaps in the message; the file may be closed by now.

        Raises
        ------
        Rejected
            If they are damaged.
        """
        source = located.source
        if isinstance(source, Chunk):
            source = decompressed(source) if located.key is None else self._kept(source, located.key)
        part: NDArray[Any] = source[located.wanted]
        return part

    def _kept(self, chunk: Chunk, key: Hashable) -> NDArray[Any]:
        """A chunk that frames to come may need again; read-only."""
        if key != self._key or self._chunk is None:
            self._key = self._chunk = None  # never two of them
            self._chunk = decompressed(chunk)
            self._chunk.setflags(write=False)
            self._key = key
        return self._chunk

    def into(self, data: DataSet, chosen: Chosen, target: NDArray[Any]) -> None:
        """Write a part of a data set into an array of its shape, converted to its type as C does.

        Raises
        ------
        Rejected
            If the bytes are damaged, lie outside the message, or are not for HDF5 to read.
        """
        pieces = _pieces(data, chosen) if data.is_plain else None
        try:
            for piece in pieces or ():
                _copy(target[piece.goal], self.array(self._locate(data, piece)))
        except _NotOursError:
            pieces = None
        if pieces is None:
            self._by_hdf5(data, chosen, target)

    def read(self, data: DataSet, chosen: Chosen) -> NDArray[Any]:
        """A part of a data set of numbers, perhaps read-only; errors as of `into`."""
        located = self.locate(data, chosen)
        if located is not None:
            return self.array(located)
        found = np.empty([at.stop for at in chosen if isinstance(at, slice)], data.dtype)
        self.into(data, chosen, found)
        return found

    def raw(self, data: DataSet, chosen: Chosen) -> memoryview | None:
        """Bytes in a message that hold a part, as they are stored; None if they are not in one piece."""
        if self.place.trusted:
            return None
        raw = self.place.contiguous(data, math.prod(data.shape or ()) * data.dtype.itemsize)
        pieces = _pieces(data, chosen) if raw is None else None
        if pieces is not None and len(pieces) == 1:
            found = self.place.chunk(data, pieces[0].corner)
            raw = found[1] if found is not None and found[0] == 0 else None
        return raw

    def text(self, data: DataSet, index: tuple[int, ...]) -> Any:
        """One text of variable length; of a message only if it lies there in one piece.

        Raises
        ------
        Rejected
            If it does not, or its claims do not hold.
        """
        if self.place.trusted:
            return data.h5[index]
        raw = self.place.contiguous(data, (data.size or 0) * REFERENCE.size)
        if raw is None or data.heap.sizes != (8, 8):
            raise Rejected("bad header value", f"'{data.name}' has text of variable length that is in chunks")
        at = REFERENCE.size * (int(np.ravel_multi_index(index, data.shape or ())) if index else 0)
        reference = bytes(raw[at : at + REFERENCE.size])
        return text_at(self.place.message, data.heap.base, reference, data.name)

    def _locate(self, data: DataSet, piece: _Piece) -> Located:
        """The bytes of a chunk, checked."""
        shape, dtype = data.chunk or (), data.dtype
        found = self.place.chunk(data, piece.corner)
        if found is None:
            return Located(np.broadcast_to(np.asarray(data.h5.fillvalue, dtype), shape), piece.wanted)
        mask, raw = found
        filters = tuple(one for i, one in enumerate(data.filters) if not mask >> i & 1)
        compression = compression_of(filters, dtype.itemsize)
        if compression is None or math.prod(shape) * dtype.itemsize > MOST_BYTES:
            raise _NotOursError
        chunk = checked(raw, compression, dtype, shape)
        if compression == "none" or math.prod(shape[:-2]) == 1:
            return Located(chunk, piece.wanted)
        return Located(chunk, piece.wanted, (data.name, piece.corner, filters, dtype, shape, zlib.crc32(raw)))

    def _by_hdf5(self, data: DataSet, chosen: Chosen, target: NDArray[Any]) -> None:
        """Read by HDF5, whose filters know what the others do not."""
        if not self.place.trusted:
            _check_filters(data, chosen)
        if any(number >= OWN_FILTERS for number, _ in data.filters):
            import gpuidx.hdf5_filters  # noqa: F401  (registers them)
        if target.flags.c_contiguous and target.flags.writeable and target.dtype == data.dtype:
            data.h5.read_direct(target, chosen)
            return
        fresh = np.empty(target.shape, data.dtype)  # HDF5 converts in another way than NumPy
        data.h5.read_direct(fresh, chosen)
        _copy(target, fresh)


def _copy(target: NDArray[Any], values: NDArray[Any]) -> None:
    """Copy values, converted as a C cast does."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(target, values, casting="unsafe")


def compression_of(filters: Filters, itemsize: int) -> str | None:
    """What `gpuidx.formats.chunks` calls a pipeline of filters; None if it does not know it."""
    numbers = tuple(number for number, _ in filters)
    if numbers in ((), (GZIP,), (LZ4,)):
        return {(): "none", (GZIP,): "gzip", (LZ4,): "lz4"}[numbers]
    if numbers == (SHUFFLE, GZIP) and filters[0][1][:1] == (itemsize,):
        return "gzip+shuffle"
    if numbers == (BITSHUFFLE,) and filters[0][1][2:3] == (itemsize,):
        return {2: "bslz4", 3: "bszstd"}.get((*filters[0][1][4:5], 0)[0])
    return None


def _pieces(data: DataSet, chosen: Chosen) -> list[_Piece] | None:
    """The chunks that hold a part; None if the data have none, or too many."""
    chunk = data.chunk
    if chunk is None or _count(chunk, chosen) > MOST_CHUNKS:
        return None
    along = [list(_along(size, at)) for size, at in zip(chunk, chosen, strict=True)]
    return [
        _Piece(
            corner=tuple(begin for begin, _, _ in steps),
            wanted=tuple(wanted for _, wanted, _ in steps),
            goal=tuple(goal for _, _, goal in steps if goal is not None),
        )
        for steps in itertools.product(*along)
    ]


def _count(chunk: Sequence[int], chosen: Chosen) -> int:
    return math.prod(
        -(-at.stop // size) for size, at in zip(chunk, chosen, strict=True) if isinstance(at, slice)
    )


def _along(size: int, at: int | slice) -> Iterator[tuple[int, int | slice, slice | None]]:
    """Chunks along one dimension: begin, part of the chunk, part of the goal."""
    if not isinstance(at, slice):
        yield at - at % size, at % size, None
        return
    for begin in range(0, at.stop, size):
        end = min(begin + size, at.stop)
        yield begin, slice(0, end - begin), slice(begin, end)


def _check_filters(data: DataSet, chosen: Chosen) -> None:
    """Keep damaged or boundless data of a message away from HDF5's own reading."""
    if any(number == BITSHUFFLE for number, _ in data.filters):
        raise Rejected(
            "unknown compression",
            f"'{data.name}' is bitshuffled in an unusual way; expected bitshuffle with LZ4 or Zstandard",
        )
    if data.chunk is not None:
        size = math.prod(data.chunk) * data.dtype.itemsize
        if size > MOST_BYTES or _count(data.chunk, chosen) > MOST_CHUNKS:
            raise Rejected(
                "wrong shape",
                f"'{data.name}' has chunks of {data.chunk}; expected at most {MOST_BYTES} bytes each, "
                f"and {MOST_CHUNKS} of them a frame",
            )
