# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of files that ``--input`` names: its lines, and the names that become of them."""

import errno
import logging
import os
import stat
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from gpuidx.errors import SourceError

log = logging.getLogger(__name__)

READ_SIZE = 1 << 16


def parse_line(line: str) -> tuple[str, str | None]:
    """File name and event of a line of the list, as CrystFEL 0.12: the event has ``//`` and no blank."""
    name, blank, event = line.rpartition(" ")
    return (name.rstrip(), event) if blank and "//" in event else (line, None)


@dataclass(frozen=True, slots=True)
class Naming:
    """From the names in the list to those of the files.

    Attributes
    ----------
    prefix
        Stands in front of all names.
    basename
        Whether folders are cut off the names before.
    """

    prefix: str = ""
    basename: bool = False

    def __call__(self, name: str) -> str:
        """The name of a file, by that in the list."""
        return self.prefix + (name.rstrip("/").rpartition("/")[2] or name if self.basename else name)


def naming(prefix: str, basename: bool, check_prefix: bool) -> Naming:
    """The `Naming` of options: a prefix that is a folder gets its slash, if it is to be checked."""
    if check_prefix and prefix and not prefix.endswith("/") and os.path.isdir(prefix):  # noqa: PTH112
        log.info(
            "--prefix=%s is a folder: taken as %s/ (--no-check-prefix takes it as it is)", prefix, prefix
        )
        prefix += "/"
    return Naming(prefix, basename)


def check_list(listing: str) -> None:
    """See whether a list can be read, before anything else is begun.

    Raises
    ------
    SourceError
        If it cannot, is empty, or is an image file instead of a list.
    """
    if listing == "-":
        return
    try:
        mode = Path(listing).stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISREG(mode):  # who writes to a pipe would lose it
            with Path(listing).open("rb") as file:
                begin = file.read(READ_SIZE)
            if not begin:
                raise SourceError(f"{listing} is empty; --input takes a list of files, one per line")
            _check_begin(listing, begin)
    except (OSError, ValueError) as error:
        raise unreadable(listing, error) from error


def unreadable(listing: str, error: Exception) -> SourceError:
    """That a list cannot be read."""
    why = getattr(error, "strerror", None) or str(error)
    return SourceError(f"{listing}: cannot read the list of files: {why}")


def _check_begin(listing: str, data: bytes) -> None:
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        raise SourceError(f"{listing} is an HDF5 file; --input takes a list of such files, one a line")
    if b"\0" in data:
        raise SourceError(f"{listing} is not text; --input takes a list of files, one per line")


class Listing:
    """Lines of a list, as they are wanted.

    Parameters
    ----------
    name
        Of the file; ``-`` is the standard input, which is read as lines arrive.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = -1
        self._poller: zmq.Poller | None = None
        self._polled = False
        self._rest: bytes | None = None  # the line that has begun; None before the first bytes
        self._lines: deque[str] = deque()
        self._is_read = False

    def open(self, poller: zmq.Poller) -> None:
        """Open the list.

        Raises
        ------
        SourceError
            If it cannot be read, or is an image file instead of a list.
        """
        self._poller = poller
        try:
            self._fd = sys.stdin.fileno() if self.name == "-" else os.open(self.name, os.O_RDONLY)
            if self.name != "-":
                self._read()
        except OSError as error:
            raise unreadable(self.name, error) from error

    def _read(self) -> None:
        """Read some more."""
        data = os.read(self._fd, READ_SIZE)
        if self._rest is None:
            _check_begin(self.name, data)
        self._is_read = not data
        lines = ((self._rest or b"") + data).split(b"\n")
        self._rest = b"" if self._is_read else lines.pop()
        names = (os.fsdecode(line.rstrip(b"\r")).strip() for line in lines)
        self._lines.extend(name for name in names if name)

    def next(self) -> str | None:
        """The next line that is not empty; None if there is none, or none yet."""
        while not self._lines and not self._is_read and self.name != "-":
            self._read()
        return self._lines.popleft() if self._lines else None

    def want(self, wanted: bool) -> None:
        """Wait for standard input only while lines are wanted: a file there is always readable."""
        wanted = wanted and self.name == "-" and not self._is_read
        if wanted != self._polled and self._poller is not None:
            self._polled = wanted
            if wanted:
                self._poller.register(self._fd, zmq.POLLIN)
            else:
                self._poller.unregister(self._fd)

    def notice(self, events: Mapping[Any, int]) -> bool:
        """Read standard input if something is there; whether it was."""
        if not self._polled or self._fd not in events:
            return False
        self._read()
        return True

    def ended(self) -> bool:
        """Whether `next` has given all lines."""
        return self._is_read and not self._lines

    def close(self) -> None:
        """Close the list."""
        self.want(False)
        if self._fd >= 0 and self.name != "-":
            os.close(self._fd)
        self._fd = -1
