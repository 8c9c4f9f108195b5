# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered frames, of which every fifth holds a crystal, and the options with which they are indexed."""

from pathlib import Path

from asapo_check.setting import Numbered

from gpuidx.measure.subject import PEAK_OPTIONS, BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

SIZE = 512
HITS_EVERY = 5


def is_hit(number: int) -> bool:
    """Whether a frame holds a crystal."""
    return number % HITS_EVERY == 0


class Shots(Numbered):
    """Messages of a few different frames, each sent with many numbers.

    Parameters
    ----------
    folder
        For the geometry and the cell.

    Attributes
    ----------
    words
        Of a run.
    """

    def __init__(self, folder: Path) -> None:
        frames = FrameSettings(dtype="u1")
        subject = Subject(folder, BuiltIn(SIZE), frames, EncodeSettings(format="msgpack"))
        self._hits, self._blanks = subject.hits, subject.blanks
        files = subject.options()
        self.words = ["-g", files.geometry, "-p", str(files.pdb), *PEAK_OPTIONS]

    def payload(self, number: int) -> bytes:
        """The message of a frame."""
        messages = self._hits if is_hit(number) else self._blanks
        return bytes(messages[number // HITS_EVERY % len(messages)].numbered_copy(number))
