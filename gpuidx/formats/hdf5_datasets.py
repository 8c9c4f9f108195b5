# SPDX-License-Identifier: GPL-3.0-or-later
"""What HDF5 says of a data set, asked for when it is needed, and once."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np

Filters: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]
"""Number and parameters of each filter, in the order in which they were applied."""


class NotKnownError(Exception):
    """HDF5 would have to be asked, but the file is not open."""


class Stretch(NamedTuple):
    """Where a chunk lies: filters that were skipped (a bit each), and its bytes."""

    mask: int
    offset: int
    size: int


class Heap(NamedTuple):
    """What the addresses of texts of variable length need: base, and bytes of an address and of a length."""

    base: int
    sizes: tuple[int, int]


class DataSet:
    """A data set of an open file, or of one that has the same structure as an earlier one.

    Parameters
    ----------
    data
        `h5py.Dataset`; None if there is no open file.
    facts
        What is known.

    Attributes
    ----------
    facts
        What was asked for, by name.
    """

    __slots__ = ("_data", "facts")

    def __init__(self, data: Any, facts: dict[Any, Any] | None = None) -> None:
        self._data = data
        self.facts: dict[Any, Any] = {} if facts is None else facts

    @property
    def h5(self) -> Any:
        """The `h5py.Dataset`.

        Raises
        ------
        NotKnownError
            If there is no open file.
        """
        if self._data is None:
            raise NotKnownError
        return self._data

    def _fact(self, name: Any, ask: Callable[[], Any]) -> Any:
        if name not in self.facts:
            self.facts[name] = ask()
        return self.facts[name]

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._fact("name", lambda: self.h5.name))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Its extents; None if it is declared to be empty."""
        shape: tuple[int, ...] | None = self._fact("shape", lambda: self.h5.shape)
        return shape

    @property
    def ndim(self) -> int:
        """How many extents it has."""
        return len(self.shape or ())

    @property
    def size(self) -> int | None:
        """How many values it has; None if it is declared to be empty."""
        return None if self.shape is None else math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that its values have in NumPy."""
        found: np.dtype[Any] = self._fact("dtype", lambda: self.h5.dtype)
        return found

    @property
    def is_plain(self) -> bool:
        """Whether the stored bytes are as NumPy has them, numbers or text: HDF5 also has 12-bit integers."""
        kind = self.dtype.kind
        if kind == "S":
            return True
        return kind in "uif" and bool(
            self._fact("plain", lambda: h5py.h5t.py_create(self.dtype).equal(self.h5.id.get_type()))
        )

    @property
    def offset(self) -> int | None:
        """Where its values lie, if they are contiguous; None if they are not."""
        found: int | None = self._fact("offset", lambda: self.h5.id.get_offset())
        return found

    @property
    def chunk(self) -> tuple[int, ...] | None:
        """Shape of its chunks; None if it has none."""
        found: tuple[int, ...] | None = self._fact("chunk", lambda: self.h5.chunks)
        return found

    @property
    def filters(self) -> Filters:
        """Those that its chunks went through."""
        found: Filters = self._fact("filters", self._asked_filters)
        return found

    def _asked_filters(self) -> Filters:
        plist = self.h5.id.get_create_plist()
        found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
        return tuple((number, tuple(values)) for number, _, values, _ in found)

    def stretch(self, corner: tuple[int, ...]) -> Stretch | None:
        """Where a chunk lies; None if it was never written."""
        found: Stretch | None = self._fact(corner, lambda: self._asked_stretch(corner))
        return found

    def _asked_stretch(self, corner: tuple[int, ...]) -> Stretch | None:
        info = self.h5.id.get_chunk_info_by_coord(corner)
        return None if info.byte_offset is None else Stretch(info.filter_mask, info.byte_offset, info.size)

    @property
    def heap(self) -> Heap:
        """How texts of variable length are found."""
        found: Heap = self._fact("heap", self._asked_heap)
        return found

    def _asked_heap(self) -> Heap:
        plist = h5py.h5i.get_file_id(self.h5.id).get_create_plist()
        return Heap(plist.get_userblock(), tuple(plist.get_sizes()))


class Group:
    """A group of an open file, or of one that has the same structure; goes over the names in it.

    Parameters
    ----------
    data
        `h5py.Group`; None if there is no open file.
    """

    __slots__ = ("_data",)

    def __init__(self, data: Any) -> None:
        self._data = data

    def __iter__(self) -> Iterator[str]:
        if self._data is None:
            raise NotKnownError
        return iter(self._data)


Entry: TypeAlias = DataSet | Group | None
"""What is at a path."""


def entry(found: Any) -> Entry:
    """What h5py found at a path."""
    if isinstance(found, h5py.Dataset):
        return DataSet(found)
    return Group(found) if isinstance(found, h5py.Group) else None


def finder(file: Any) -> Callable[[str], Entry]:
    """Gives what is at a path of an `h5py.File`."""
    return lambda path: entry(file.get(path))
