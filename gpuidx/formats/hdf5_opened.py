# SPDX-License-Identifier: GPL-3.0-or-later
"""Open HDF5 files, and which of their frames is meant.

An event is ``PATHS//INDICES``: what the ``%`` in paths stand for, joined by ``/``, then the frame's index
along each dimension that the geometry calls ``%``.
"""

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import DataSet, Entry, Group
from gpuidx.formats.hdf5_places import Place
from gpuidx.formats.lookup import what_there_is


def parse_event(event: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Path parts and indices of an event; ``//`` and the empty event have none.

    Raises
    ------
    Rejected
        If it has no ``//`` or an index is no number.
    """
    paths, slashes, indices = event.partition("//")
    try:
        numbers = tuple(int(word) for word in indices.split("/") if word)
    except ValueError:
        numbers = (-1,)
    if (event and not slashes) or any(number < 0 for number in numbers):
        raise Rejected("bad event", f"{event!r:.80} is not understood; expected for instance //3 or entry//3")
    return tuple(word for word in paths.split("/") if word), numbers


def fill_path(path: str, parts: Sequence[str]) -> str:
    """A path with its ``%`` replaced, in order.

    Raises
    ------
    Rejected
        If there are more of them than parts.
    """
    if path.count("%") > len(parts):
        raise Rejected("bad event", f"the event has too few parts for the % in '{path}'")
    for part in parts[: path.count("%")]:
        path = path.replace("%", part, 1)
    return path


def one_line(error: Exception) -> str:
    """What an exception says, fit for a log: HDF5's texts are long and may hold line breaks."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def wants(dims: Sequence[str | int]) -> str:
    """What the geometry expects, as text."""
    return f"the geometry has {len(dims)} dimensions ({', '.join(map(str, dims))})"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, and which of its frames is meant.

    Attributes
    ----------
    name
        Of the file, for texts.
    find
        The data set at a path, or the group; None if there is neither.
    place
        Where the values lie.
    parts, index
        Of the event.
    batch
        Whether the data sets have one dimension for frames in front, of which the geometry does not know.
    n_frame
        Frames of a message; 1 for a file, of which that is not asked.
    masks_key
        The same for frames with the same masks; None if they may differ.
    """

    name: str
    find: Callable[[str], Entry]
    place: Place
    parts: tuple[str, ...] = ()
    index: tuple[int, ...] = ()
    batch: bool = False
    n_frame: int = 1
    masks_key: Hashable = None

    def entry(self, path: str) -> Entry:
        """What is at a path, in which the ``%`` are filled; None if nothing is."""
        return self.find(fill_path(path, self.parts))

    def dataset(self, path: str) -> DataSet:
        """A data set by its path.

        Raises
        ------
        Rejected
            If there is none.
        """
        found = self.entry(path)
        if not isinstance(found, DataSet):
            full = fill_path(path, self.parts)
            what = (
                f"is not there in {self.name}" + self._near(full)
                if found is None
                else f"is a group in {self.name}"
            )
            raise Rejected("missing key", f"'{full}' {what}")
        return found

    def _near(self, path: str) -> str:
        """What the innermost group has on the way to a path that is not there."""
        group = path
        while group not in ("", "/"):
            group = group.rpartition("/")[0] or "/"
            found = self.find(group)
            if isinstance(found, Group):
                missing = path[len(group) :].strip("/").partition("/")[0]
                return f"; '{group}' has {what_there_is(missing, found)}"
        return ""

    def dims(self, dims: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """Dimensions of the data sets, by those in the geometry."""
        return ("%", *dims) if self.batch else dims
