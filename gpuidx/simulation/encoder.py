# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames to messages of a chosen format, with what begins and ends their series."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gpuidx.errors import GeometryError, OptionError
from gpuidx.geometry.detector import Geometry
from gpuidx.options.every import flag
from gpuidx.serving import Outgoing, Repeatable, in_turn
from gpuidx.simulation.beam import headers_of
from gpuidx.simulation.formats import FORMATS, EncodeSettings, Parts, Shot
from gpuidx.simulation.frames import SimulatedFrame, Simulator
from gpuidx.simulation.settings import FrameSettings


class Sized(Repeatable, Protocol):
    """A message that says how large it is."""

    @property
    def n_byte(self) -> int:
        """Of all parts."""
        ...


@dataclass(frozen=True, slots=True)
class FixedMessage:
    """A message that is the same whatever the number of the frame."""

    content: Parts

    def parts(self, number: int) -> Sequence[Any]:
        """What to send."""
        return self.content

    @property
    def n_byte(self) -> int:
        """Of all parts."""
        return sum(map(len, self.content))


class Encoder:
    """Makes the messages of a run.

    Parameters
    ----------
    simulator, settings
        Of the frames and of the messages.

    Raises
    ------
    OptionError, GeometryError
        If the format cannot hold the frames.
    """

    def __init__(self, simulator: Simulator, settings: EncodeSettings) -> None:
        self._format = FORMATS[settings.format]
        self._simulator, self._geometry, self._settings = simulator, simulator.geometry, settings
        self._compression = settings.compression or self._format.compressions[0]
        self._first: Shot | None = None
        self._check_options(simulator.settings)
        self._check_arrays(self._geometry)

    def _check_options(self, frames: FrameSettings) -> None:
        form, name = self._format, f"--format={self._settings.format}"
        if self._compression not in form.compressions:
            known = ", ".join(form.compressions)
            raise OptionError(f"--compression={self._compression}: {name} has {known}")
        if frames.dtype not in form.types:
            raise OptionError(f"--dtype={frames.dtype}: {name} has {', '.join(form.types)}")
        for spread in form.once:
            if getattr(frames, spread):
                raise OptionError(f"{flag(spread)}: {name} tells this value once for all frames")
        if not self._settings.image and self._settings.format != "msgpack":
            raise OptionError(f"--no-image needs --format=msgpack, not {self._settings.format}")

    def _check_arrays(self, geometry: Geometry) -> None:
        if not self._format.has_arrays and len(geometry.arrays) > 1:
            text = f"asks for {len(geometry.arrays)} arrays; a message of {self._settings.format} has one"
            raise GeometryError(geometry.file, None, text)

    def message(self, frame: SimulatedFrame) -> Sized:
        """A frame, to be sent perhaps several times."""
        shot = Shot(frame, self._geometry, self._settings, self._compression)
        self._first = self._first or shot
        made = self._format.encode(shot)
        return FixedMessage(made) if isinstance(made, list) else made

    def series(self, messages: Sequence[Sized], n_frame: int, rate: float = 0.0) -> Iterator[Outgoing]:
        """What to send: the start of the series, *n_frame* of the frames in turn, and the end.

        Parameters
        ----------
        messages
            Made by `message`.
        n_frame, rate
            As `gpuidx.serving.in_turn`.
        """
        if self._format.start is not None and self._first is not None:
            headers = headers_of(self._geometry, self._simulator.beam)
            yield Outgoing(self._format.start(self._first, headers), is_frame=False)
        yield from in_turn(messages, n_frame, rate)
        if self._format.end is not None:
            yield Outgoing(self._format.end(), is_frame=False)
