# SPDX-License-Identifier: GPL-3.0-or-later
"""The output file: one write a chunk, so that a reader never sees half of one that was written in full."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpuidx.errors import StreamError

BEGIN = 1024
"""Bytes of an existing file by which it is recognised."""

_NO_FILE = {errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.ESPIPE}


class Output:
    """A file that chunks are appended to.

    Parameters
    ----------
    path
        Name as the user gave it; an existing file is overwritten if it is empty or an output of this kind.
        Any other file, such as the geometry, was named by mistake.
    head
        Written first.
    overwrite
        Whether a file of an earlier run may be overwritten at all.
    keep
        Bytes of an earlier run that stay in front; with these no head is written.
    is_ours
        Whether a file with this beginning (`BEGIN` bytes) is an output of this kind; if it is None, the file
        must begin with the first line of *head*, the last word (a version) apart.

    Attributes
    ----------
    size
        Bytes written.
    n_chunk
        Chunks written.

    Raises
    ------
    StreamError
        If the file cannot be made or written, or another process is writing it.
    """

    def __init__(
        self,
        path: str,
        head: bytes = b"",
        overwrite: bool = True,
        keep: int = 0,
        is_ours: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.path = path
        self.size = self.n_chunk = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            raise StreamError(f"{path}: cannot be created: {_reason(error)}") from error
        try:
            self._claim()
            first = head.split(b"\n", 1)[0].rsplit(b" ", 1)[0]
            self._recognise(is_ours or (lambda begin: begin.startswith(first)), overwrite)
            with suppress(OSError):  # a pipe or a device has no length
                os.ftruncate(self._fd, keep)
            if keep:
                self.size = os.lseek(self._fd, keep, os.SEEK_SET)
            else:
                self._append(head)
        except StreamError:
            self._abandon()
            raise

    def _claim(self) -> None:
        """See to it that no other process writes this file; not every file system can tell."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StreamError(f"{self.path}: another process is writing this file") from error
        except OSError:
            return

    def _recognise(self, is_ours: Callable[[bytes], bool], overwrite: bool) -> None:
        """See to it that what is overwritten was an output as well."""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return
        if not overwrite:
            raise StreamError(f"{self.path}: this file exists already; remove it, or give another name")
        try:
            with Path(self.path).open("rb") as file:
                found = file.read(BEGIN)
        except OSError:  # it may be written, but not read
            return
        if not is_ours(found):
            raise StreamError(
                f"{self.path}: this file exists and is not an output of an earlier run; remove it, "
                "or give another name"
            )

    def write(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Append one chunk, whose pieces need not lie together.

        Raises
        ------
        StreamError
            If it does not go to the file as a whole; nothing of it is left there then.
        """
        self._append(*pieces)
        self.n_chunk += 1

    def _append(self, *pieces: bytes | bytearray | memoryview) -> None:
        try:
            written = sum(self._write_all(memoryview(piece)) for piece in pieces)
        except OSError as error:
            with suppress(OSError):  # a pipe does not take anything back
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            raise StreamError(f"{self.path}: cannot be written: {_reason(error)}") from error
        self.size += written

    def _write_all(self, data: memoryview) -> int:
        written = 0
        while written < len(data):  # the write after a short one says what is wrong
            n = os.write(self._fd, data[written:])
            if n == 0:
                raise OSError(errno.ENOSPC, "nothing could be written")
            written += n
        return written

    def close(self) -> None:
        """Have everything on the disk, and close; a second call does nothing.

        Raises
        ------
        StreamError
            If the file system says only now that something could not be written.
        """
        if self._fd < 0:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in _NO_FILE:
                self._abandon()
                raise StreamError(f"{self.path}: cannot be written: {_reason(error)}") from error
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise StreamError(f"{self.path}: cannot be written: {_reason(error)}") from error

    def _abandon(self) -> None:
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(fd)


def put_aside(path: str, stream: str, number: int, message: bytes | memoryview) -> str:
    """Keep a message in a file in the folder ``PATH.lost``; gives its name, or why there is none."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stream) or "message"
    folder = Path(f"{path}.lost")
    try:
        folder.mkdir(exist_ok=True)
        (folder / f"{safe}-{number}.data").write_bytes(message)
    except OSError as error:
        return f"no file: {folder}: {_reason(error)}"
    return str(folder / f"{safe}-{number}.data")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
