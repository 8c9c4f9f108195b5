# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures are an extra: what is said where they cannot be drawn or written."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpuidx.errors import InputFileError


@contextmanager
def drawing(file: str) -> Iterator[None]:
    """A context that imports a module with matplotlib, draws a picture and writes it to *file*.

    Raises
    ------
    InputFileError
        If the file cannot be written.
    """
    try:
        yield
    except ImportError:
        print("no picture: matplotlib is not installed; pip install 'gpuidx[pictures]'", file=sys.stderr)
    except OSError as error:
        raise InputFileError(file, None, f"cannot be written: {error.strerror or error}") from error
    else:
        print(f"picture: {file}")
