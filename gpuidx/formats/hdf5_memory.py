# SPDX-License-Identifier: GPL-3.0-or-later
"""An HDF5 file in memory, which came from someone: what leads out of it is refused."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import Any

import h5py

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import Entry, NotKnownError, entry
from gpuidx.formats.hdf5_known import SIGNATURE
from gpuidx.formats.hdf5_opened import Opened, one_line
from gpuidx.formats.hdf5_places import InMessage

FARTHEST_SIGNATURE = 1 << 20
"""Bytes; a user block in front of the signature is 512 bytes or a power of two above."""

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


class _View(RawIOBase):
    """A message as a file that HDF5 reads without a copy of the whole.

    Attributes
    ----------
    reads
        Where it was read, from and to.
    """

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0
        self.reads: list[tuple[int, int]] = []

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
        self.reads.append((self._at, self._at + len(part)))
        self._at += len(part)
        return len(part)


NAME = "the message"
"""What the file is called in texts."""


def of_known(data: memoryview, known: dict[str, Entry]) -> Opened:
    """A message of which it is known where everything lies."""

    def find(path: str) -> Entry:
        if path not in known:
            raise NotKnownError
        return known[path]

    return Opened(name=NAME, find=find, place=InMessage(data))


@contextmanager
def open_message(data: memoryview) -> Iterator[tuple[Opened, "Contents"]]:
    """The file that a message is; whatever HDF5 makes of a damaged one becomes a reason."""
    file, found = None, None
    try:
        view = _View(data)
        file = _open(view)
        found = Contents(file, view.reads)
        yield Opened(name=NAME, find=found.find, place=InMessage(data)), found
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


class Contents:
    """Data sets and groups by path, each opened once; never anything outside the file.

    Parameters
    ----------
    file
        Identifier of an open file.
    reads
        Where it has been read, from and to.

    Attributes
    ----------
    found
        What was asked for, by path.
    """

    def __init__(self, file: Any, reads: list[tuple[int, int]]) -> None:
        self._file, self._links, self.reads = file, file.links, reads
        self._hard: set[str] = set()
        self.found: dict[str, Entry] = {}

    def forget(self) -> None:
        """Let go of all that is open."""
        self.found.clear()

    def find(self, path: str) -> Entry:
        """The data set at a path, or the group; None if there is neither.

        Raises
        ------
        Rejected
            If the path, or what is there, leads out of the file.
        """
        if path not in self.found:
            self.found[path] = entry(self._look(path))
        return self.found[path]

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
