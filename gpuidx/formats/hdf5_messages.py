# SPDX-License-Identifier: GPL-3.0-or-later
"""HDF5 files that come as messages: what `indexamajig --data-format=hdf5` reads, and what LCLStreamer sends.

Such a file is not believed: what leads out of it (external links, external storage, virtual datasets) is
refused, sizes are checked before anything is read, and pixels are decompressed outside HDF5.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import Entry, NotKnownError
from gpuidx.formats.hdf5_frame import Found, FrameReader
from gpuidx.formats.hdf5_known import Known
from gpuidx.formats.hdf5_memory import begins, of_known, open_message
from gpuidx.formats.hdf5_opened import Opened, wants
from gpuidx.formats.setting import Setting
from gpuidx.model import Frame, Message

__all__ = ["Hdf5Messages", "begins"]

T = TypeVar("T")

MOST_FRAMES = 4096
"""In a message; a claim of more is no batch of a detector."""


class Hdf5Messages:
    """Decodes the messages of one run.

    Parameters
    ----------
    setting
        Of the run.
    """

    def __init__(self, setting: Setting) -> None:
        self.geometry = setting.geometry
        self._reader = FrameReader(setting)
        self._known = Known()
        self._looked_at: tuple[Message | None, dict[str, Entry] | None] = None, None

    def frame_count(self, message: Message) -> int:
        """How many frames a message holds, at least 1; only the file's structure is read.

        Raises
        ------
        Rejected
            If it is no file of frames that the geometry describes.
        """
        return self._asked(message, lambda opened: math.prod(self._extents(opened)[0]), learn=False)

    def decode(self, message: Message) -> Frame:
        """The frame of a message that `Message.number` says; its image lies in the message if it can.

        Raises
        ------
        Rejected
            If anything that is needed is missing, malformed or absurd, or leads out of the message.
        """
        found = self._asked(message, lambda opened: self._find(opened, message.number), learn=True)
        return self._reader.frame(message, found)

    def _asked(self, message: Message, question: Callable[[Opened], T], learn: bool) -> T:
        """The answer to a question; HDF5 is needed only if the message's structure is not known."""
        known = self._known_of(message)
        if known is not None:
            try:
                return question(of_known(message.data, known))
            except NotKnownError:
                pass
        with open_message(message.data) as (opened, contents):
            answer = question(opened)
            if learn:
                self._known.learn(message.data, contents.reads, contents.found)
        return answer

    def _known_of(self, message: Message) -> dict[str, Entry] | None:
        """What is known to be in a message, looked up once for all questions about it."""
        if self._looked_at[0] is not message:
            self._looked_at = message, self._known.find(message.data)
        return self._looked_at[1]

    def _find(self, opened: Opened, number: int) -> Found:
        """All that is needed of a frame."""
        extents, batch = self._extents(opened)
        n_frame = math.prod(extents)
        if not 0 <= number < n_frame:
            raise Rejected("bad event", f"frame {number} of a message with {n_frame}")
        index = tuple(int(i) for i in np.unravel_index(number, extents)) if extents else ()
        return self._reader.find(replace(opened, index=index, batch=batch, n_frame=n_frame))

    def _extents(self, opened: Opened) -> tuple[tuple[int, ...], bool]:
        """Sizes of the dimensions that count frames, and whether that is one more than the geometry has."""
        array = self.geometry.arrays[0]
        found = opened.find(array.data) if "%" not in array.data else None
        if "%" in array.data:
            raise Rejected("wrong shape", f"'{array.data}' has a %, for which a message has no value")
        if found is None and not self._reader.with_image:
            n_list = self._reader.peaks.frame_count(opened) if self._reader.peaks is not None else None
            shape: tuple[int, ...] = () if n_list is None else (n_list,)
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
