# SPDX-License-Identifier: GPL-3.0-or-later
"""HDF5 files that come as messages: what `indexamajig --data-format=hdf5` reads, and what LCLStreamer sends.

Such a file is not believed: what leads out of it (external links, external storage, virtual datasets) is
refused, sizes are checked before anything is read, and pixels are decompressed outside HDF5.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import Any

import h5py
import numpy as np

from gpuidx.errors import Rejected
from gpuidx.formats.frame import Buffers
from gpuidx.formats.hdf5_frame import FrameReader
from gpuidx.formats.hdf5_opened import Opened, one_line, wants
from gpuidx.formats.hdf5_places import InMessage
from gpuidx.formats.lookup import HeaderLookup
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, Message
from gpuidx.options import Options

SIGNATURE = b"\x89HDF\r\n\x1a\n"

FARTHEST_SIGNATURE = 1 << 20
"""Bytes; a user block in front of the signature is 512 bytes or a power of two above."""

MOST_FRAMES = 4096
"""In a message; a claim of more is no batch of a detector."""

MOST_LINKS = 16
"""Soft links that are followed from one path."""


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be an HDF5 file, by its first bytes, or those behind a user block."""
    if not parts:
        return False
    data, at = parts[-1], 0
    while at < min(len(data), FARTHEST_SIGNATURE):
        if data[at : at + len(SIGNATURE)] == SIGNATURE:
            return True
        at = max(512, 2 * at)
    return False


class Hdf5Messages:
    """Decodes the messages of one run.

    Parameters
    ----------
    geometry, options
        Of the run.
    headers
        Looks up header values.
    masks
        Tells pixels that are bad in single frames.
    buffers
        Slabs to copy pixels to where they cannot stay in the message.
    notes
        Counts dropped peaks.
    """

    def __init__(
        self,
        geometry: Geometry,
        options: Options,
        headers: HeaderLookup,
        masks: Masks | None,
        buffers: Buffers,
        notes: Counter[str],
    ) -> None:
        self.geometry = geometry
        self._reader = FrameReader(geometry, options, headers, masks, buffers, notes)

    def frame_count(self, message: Message) -> int:
        """How many frames a message holds, at least 1; only the file's structure is read.

        Raises
        ------
        Rejected
            If it is no file of frames that the geometry describes.
        """
        with _opened(message.data) as opened:
            return math.prod(self._extents(opened)[0])

    def decode(self, message: Message) -> Frame:
        """The frame of a message that `Message.number` says; its image lies in the message if it can.

        Raises
        ------
        Rejected
            If anything that is needed is missing, malformed or absurd, or leads out of the message.
        """
        with _opened(message.data) as opened:
            extents, batch = self._extents(opened)
            n_frame = math.prod(extents)
            if not 0 <= message.number < n_frame:
                raise Rejected("bad event", f"frame {message.number} of a message with {n_frame}")
            index = tuple(int(i) for i in np.unravel_index(message.number, extents)) if extents else ()
            found = self._reader.find(replace(opened, index=index, batch=batch, n_frame=n_frame))
        return self._reader.frame(message, found)

    def _extents(self, opened: Opened) -> tuple[tuple[int, ...], bool]:
        """Sizes of the dimensions that count frames, and whether that is one more than the geometry has."""
        array = self.geometry.arrays[0]
        found = opened.find(array.data) if "%" not in array.data else None
        if "%" in array.data:
            raise Rejected("wrong shape", f"'{array.data}' has a %, for which a message has no value")
        if found is None and not self._reader.with_image:
            n_list = self._reader.peaks.frame_count(opened) if self._reader.peaks is not None else None
            shape = () if n_list is None else (n_list,)
            dims: tuple[str | int, ...] = ("%",) * len(shape)
        else:
            shape, dims = opened.dataset(array.data).shape or (), array.dims
        batch = "%" not in array.dims and len(shape) == len(dims) + 1
        if batch:
            dims = ("%", *dims)
        if len(shape) != len(dims):
            raise Rejected("wrong shape", f"'{array.data}' has shape {shape}; {wants(array.dims)}")
        extents = tuple(extent for extent, dim in zip(shape, dims, strict=True) if dim == "%")
        if not 0 < math.prod(extents) <= MOST_FRAMES:
            raise Rejected(
                "wrong shape", f"'{array.data}' has shape {shape}; expected 1 to {MOST_FRAMES} frames"
            )
        return extents, batch


class _View(RawIOBase):
    """A message as a file that HDF5 reads without a copy of the whole."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {SEEK_CUR: self._at, SEEK_END: len(self._data)}.get(whence, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, room: Any) -> int:
        part = self._data[self._at : self._at + len(room)]
        room[: len(part)] = part
        self._at += len(part)
        return len(part)


@contextmanager
def _opened(data: memoryview) -> Iterator[Opened]:
    """The file that a message is; whatever HDF5 makes of a damaged one becomes a reason."""
    file, found = None, None
    try:
        file = _open(_View(data))
        found = _Contents(file)
        yield Opened(name="the message", find=found.find, place=InMessage(data))
    except Rejected:
        raise
    except Exception as error:
        why = f"{len(data)} bytes, {one_line(error)}"
        raise Rejected("damaged HDF5 file" if begins((data,)) else "not an HDF5 file", why) from error
    finally:
        if found is not None:
            found.forget()
        with suppress(Exception):  # a damaged file may not even close
            if file is not None:
                file.close()


def _open(view: _View) -> Any:
    """A file's identifier; `h5py.File` takes three times as long to open and close."""
    plist = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    plist.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    plist.set_fileobj_driver(h5py.h5fd.fileobj_driver, view)
    return h5py.h5f.open(b"message", h5py.h5f.ACC_RDONLY, fapl=plist)


class _Contents:
    """Data sets and groups by path, each opened once; never anything outside the file.

    Parameters
    ----------
    file
        Identifier of an open file.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._links = file, file.links
        self._hard: set[str] = set()
        self._found: dict[str, Any] = {}

    def forget(self) -> None:
        """Let go of all that is open."""
        self._found.clear()

    def find(self, path: str) -> Any:
        """The group or data set at a path; None if there is none.

        Raises
        ------
        Rejected
            If the path, or what is there, leads out of the file.
        """
        if path not in self._found:
            self._found[path] = self._look(path)
        return self._found[path]

    def _look(self, path: str) -> Any:
        real: str | None = path
        for _ in range(MOST_LINKS + 1):
            hard, real = real, self._followed(path, real or "")
            if real is None:
                return None
            if real == hard:
                return self._open(path, real)
        raise Rejected("damaged HDF5 file", f"'{path}' has more than {MOST_LINKS} soft links")

    def _followed(self, path: str, real: str) -> str | None:
        """A path with the first soft link replaced by what it says; the same if there is none."""
        words = [word for word in real.split("/") if word not in ("", ".")]
        for n in range(1, len(words) + 1):
            step = "/".join(words[:n])
            if step in self._hard:
                continue
            try:
                kind = self._links.get_info(step.encode()).type
            except (KeyError, RuntimeError):  # HDF5 does not tell what is missing from what is damaged
                return None
            if kind == h5py.h5l.TYPE_SOFT:
                target = self._links.get_val(step.encode()).decode()
                before = [] if target.startswith("/") else words[: n - 1]
                return "/".join((*before, target, *words[n:]))
            if kind != h5py.h5l.TYPE_HARD:
                raise _leads_out(path, "is an external link")
            self._hard.add(step)
        return real

    def _open(self, path: str, real: str) -> Any:
        opened = h5py.h5o.open(self._file, real.encode() or b"/")
        if isinstance(opened, h5py.h5g.GroupID):
            return h5py.Group(opened)
        if not isinstance(opened, h5py.h5d.DatasetID):
            return None
        if opened.get_offset() is None:  # not contiguous within the message
            plist = opened.get_create_plist()
            if plist.get_external_count():
                raise _leads_out(path, "has external storage")
            if plist.get_layout() == h5py.h5d.VIRTUAL:
                raise _leads_out(path, "is a virtual dataset")
        return h5py.Dataset(opened, readonly=True)


def _leads_out(path: str, how: str) -> Rejected:
    return Rejected("leads out of the message", f"'{path}' {how}, which is never followed")
