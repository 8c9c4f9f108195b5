# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of a stream with their numbers, and its tables; what the lines mean is known to `reader`."""

import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import StreamError
from gpuidx.stream.layout import CHUNK_END


class Truncated(Exception):  # noqa: N818  (a way out of a loop, not a fault)
    """The file ends within a chunk."""


class Lines:
    """Lines of a file with their numbers."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.number = 0
        self._is_whole = True
        self._name, self._file = name, file

    def wrong(self, text: str) -> StreamError:
        """An error that names file and line."""
        return StreamError(f"{self._name}:{self.number}: {text}")

    def next(self) -> str | None:
        """The next line without its end; None at the end of the file."""
        try:
            line = self._file.readline()
        except (EOFError, OSError, zlib.error) as error:
            raise self.wrong(f"the file cannot be read further: {error}") from error
        if not line:
            return None
        self.number += 1
        self._is_whole = line.endswith(b"\n")
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def within(self) -> str:
        """The next line of a chunk."""
        line = self.next()
        if line is None or not (self._is_whole or line == CHUNK_END):
            raise Truncated
        return line

    def skip_to(self, marker: str) -> bool:
        """Pass over lines up to a marker; whether there is one."""
        while (line := self.next()) is not None:
            if line == marker:
                return True
        return False

    def block(self, end: str) -> str:
        """The lines up to a marker."""
        lines: list[str] = []
        while (line := self.next()) is not None:
            if line == end:
                return "".join(lines)
            lines.append(line + "\n")
        raise self.wrong(f"the file ends before {end!r}")

    def table(self, end: str, types: list[tuple[str, Any]]) -> NDArray[np.void]:
        """A table with a line of titles: columns of *types*, and a last one, the panel."""
        self.within()
        rows = []
        while (line := self.within()) != end:
            row = line.split(maxsplit=len(types))
            if len(row) != len(types) + 1:
                raise self.wrong(f"{line!r} has {len(row)} fields; expected {len(types) + 1}")
            rows.append(row)
        columns = list(zip(*rows, strict=True)) or [()] * (len(types) + 1)
        width = max(map(len, columns[-1]), default=1)
        values = np.empty(len(rows), [*types, ("panel", f"U{width}")])
        for (name, _), column in zip([*types, ("panel", str)], columns, strict=True):
            values[name] = column
        return values
