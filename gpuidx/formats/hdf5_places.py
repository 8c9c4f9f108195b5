# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the bytes of HDF5 data sets lie: in a file of the user's, or in a message."""

from typing import Protocol

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import DataSet


class Place(Protocol):
    """Where data sets are stored: a file, or a message."""

    trusted: bool
    """Whether HDF5's own reading may be used with any filter."""

    message: memoryview
    """The file in memory; empty for one that is not there."""

    def contiguous(self, data: DataSet, size: int) -> memoryview | None:
        """All *size* bytes of a contiguous data set; None to let HDF5 read them."""

    def chunk(self, data: DataSet, corner: tuple[int, ...]) -> tuple[int, memoryview] | None:
        """Mask of skipped filters and bytes of a chunk; None if nothing is stored there."""


class InFile:
    """Data sets of a file that the user named."""

    trusted = True
    message = memoryview(b"")

    def contiguous(self, data: DataSet, size: int) -> memoryview | None:
        """None: HDF5 reads straight into the slab."""
        return None

    def chunk(self, data: DataSet, corner: tuple[int, ...]) -> tuple[int, memoryview] | None:
        """The bytes as `Place.chunk` gives them, read from the file."""
        if data.stretch(corner) is None:
            return None
        mask, raw = data.h5.id.read_direct_chunk(corner)
        return mask, memoryview(raw)


class InMessage:
    """Data sets of a file image in memory, whose claims are not believed.

    Parameters
    ----------
    message
        The image.
    """

    trusted = False

    def __init__(self, message: memoryview) -> None:
        self.message = message

    def contiguous(self, data: DataSet, size: int) -> memoryview | None:
        """The bytes in the message; None for data that have no place there (compact, or never written)."""
        return None if data.offset is None else self._part(data, data.offset, size)

    def chunk(self, data: DataSet, corner: tuple[int, ...]) -> tuple[int, memoryview] | None:
        """The bytes as `Place.chunk` gives them, a view into the message."""
        found = data.stretch(corner)
        return None if found is None else (found.mask, self._part(data, found.offset, found.size))

    def _part(self, data: DataSet, offset: int, size: int) -> memoryview:
        if not 0 <= offset <= len(self.message) - size:
            raise Rejected(
                "truncated message",
                f"'{data.name}' is to end at byte {offset + size}; the message has {len(self.message)}",
            )
        return self.message[offset : offset + size]
