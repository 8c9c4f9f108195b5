# SPDX-License-Identifier: GPL-3.0-or-later
"""Every exception class of gpuidx.

A message says where, what, and what instead, on one line.  Only `gpuidx.cli` turns an exception
into text on the terminal and an exit code.
"""


class GpuidxError(Exception):
    """Root of all errors that a user can mend.  `exit_code` is what the program ends with."""

    exit_code = 1


class OptionError(GpuidxError):
    """The command line is wrong; raised before any socket or file is opened."""

    exit_code = 2


class InputFileError(GpuidxError):
    """A file that the run needs cannot be used.

    Parameters
    ----------
    file
        Name of the file as the user gave it.
    line
        Line number from 1, or None where no single line is to blame.
    text
        What is wrong, and what is expected.
    """

    def __init__(self, file: str, line: int | None, text: str) -> None:
        self.file, self.line, self.text = file, line, text
        super().__init__(f"{file}:{line}: {text}" if line is not None else f"{file}: {text}")


class GeometryError(InputFileError):
    """A geometry file (.geom) cannot be used."""


class CellFileError(InputFileError):
    """A unit-cell file (.cell or PDB) cannot be used."""


class SolutionFileError(InputFileError):
    """A file of crystals (``--fromfile-input-file``) cannot be used."""


class SourceError(GpuidxError):
    """The source of messages cannot be opened, was lost, or gave no data."""

    exit_code = 3


class ServiceError(SourceError):
    """A service that frames should come from is not there, or refuses us, before the run begins."""

    exit_code = 1


class BackendError(GpuidxError):
    """No usable device, a kernel that does not compile, or out of memory."""


class WorkerError(GpuidxError):
    """Workers die before they are ready; the run cannot go on."""


class AccountsError(GpuidxError):
    """The accounts do not add up: a defect of gpuidx."""

    exit_code = 4


class StreamError(GpuidxError):
    """The output cannot be written, or a stream cannot be read."""

    exit_code = 5


class Rejected(Exception):  # noqa: N818  (a value that travels, not a fault of the program)
    """One frame cannot be used.  Counted by `reason`, never fatal.

    Parameters
    ----------
    reason
        A few fixed words by which frames are counted, such as ``"missing key"``.
    detail
        What is wrong with this very frame: key, value, expected.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)
