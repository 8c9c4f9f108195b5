# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in HDF5 files that the user named: external links and virtual datasets are followed.

A file that comes in a message is another matter: `hdf5_messages`.  What is in a file: `hdf5_frame`.
"""

import os
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import h5py

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import finder
from gpuidx.formats.hdf5_frame import FrameReader
from gpuidx.formats.hdf5_opened import Opened, one_line, parse_event, wants
from gpuidx.formats.hdf5_places import InFile
from gpuidx.formats.setting import Setting
from gpuidx.model import Frame, Message

OPEN_FILES = 2
"""Files that a worker keeps open: opening one costs as much as reading a small frame."""


def open_file(filename: str) -> Any:
    """An `h5py.File` for reading; a file that is being written is no obstacle.

    Raises
    ------
    Rejected
        If it cannot be opened.
    """
    try:
        return h5py.File(filename, "r", locking=False)
    except Exception as error:  # whatever HDF5 makes of a damaged file
        foreign = os.path.isfile(filename) and not h5py.is_hdf5(filename)  # noqa: PTH113  (never raises)
        why = "not an HDF5 file" if foreign else one_line(error)
        raise Rejected("file cannot be read", f"{filename}: {why}") from error


class Hdf5Files:
    """Reads the frames of files; keeps the last files open.

    Parameters
    ----------
    setting
        Of the run.
    """

    def __init__(self, setting: Setting) -> None:
        self.geometry = setting.geometry
        self._reader = FrameReader(setting)
        self._open: OrderedDict[str, Any] = OrderedDict()

    def decode(self, message: Message) -> Frame:
        """The frame that the message names.

        Raises
        ------
        Rejected
            If it cannot be read, or anything in it does not fit the geometry.
        """
        parts, index = parse_event(message.event)
        for array in self.geometry.arrays:
            if array.data.count("%") < len(parts):
                raise Rejected("bad event", f"the event has too many parts for the % in '{array.data}'")
            if array.dims.count("%") != len(index):
                raise Rejected(
                    "bad event",
                    f"the event has {len(index)} indices for '{array.data}'; {wants(array.dims)}",
                )
        filename = message.filename
        file = self._file(filename)
        opened = Opened(
            name=filename,
            find=finder(file),
            place=InFile(),
            parts=parts,
            index=index,
            masks_key=(filename, parts),
        )
        try:
            return self._reader.frame(message, self._reader.find(opened))
        except Rejected:
            raise
        except Exception as error:  # whatever HDF5 makes of a damaged file
            self.close()
            raise Rejected("file cannot be read", f"{filename}: {one_line(error)}") from error

    def _file(self, filename: str) -> Any:
        if filename not in self._open:
            file = open_file(filename)
            while len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[filename] = file
        self._open.move_to_end(filename)
        return self._open[filename]

    def close(self) -> None:
        """Close the files."""
        while self._open:
            with suppress(Exception):  # a damaged file may not even close
                self._open.popitem()[1].close()
