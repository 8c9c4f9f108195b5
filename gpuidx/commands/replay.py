# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx replay``: recorded messages sent again, as a live source would."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from gpuidx.arguments import option, parse
from gpuidx.commands.serving import stopped_by_signals
from gpuidx.errors import OptionError
from gpuidx.recording.file import Recording
from gpuidx.serving import Outgoing, ServeSettings, serve
from gpuidx.sources.contract import FRAME
from gpuidx.sources.parts import role_of

log = logging.getLogger(__name__)

DESCRIPTION = """Sends the messages of a recording ('gpuidx record') over any kind of socket, at the recorded
rate or another one: gpuidx replay FILE --serve=rep --bind=ADDRESS"""

REPLAYING = "Replaying"


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(ServeSettings):
    """All options of the command."""

    recording: str = option(
        "", group=REPLAYING, positional=True, metavar="FILE", help="made by 'gpuidx record'"
    )
    speed: float = option(1.0, group=REPLAYING, metavar="X", help="so many times the recorded rate")
    rate: Optional[float] = option(  # noqa: UP045
        None, group=REPLAYING, metavar="HZ", help="frames per second, instead of the recorded rate"
    )
    as_fast_as_possible: bool = option(False, group=REPLAYING, help="whenever the reader takes one")
    loop: bool = option(False, group=REPLAYING, help="begin again behind the last message, until stopped")
    link: Optional[int] = option(  # noqa: UP045
        None, group=REPLAYING, metavar="N",
        help="only what came from this of the recorded addresses, counted from 0",
    )  # fmt: skip
    max_frames: Optional[int] = option(  # noqa: UP045
        None, group=REPLAYING, metavar="N", help="end after this many frames"
    )

    def __post_init__(self) -> None:
        if not self.recording:
            raise OptionError("no recording; expected gpuidx replay FILE --serve=SOCKET --bind=ADDRESS")
        if self.serve == "none":
            raise OptionError("give the kind of socket: --serve=rep, router, pub or push")
        if not self.speed > 0:
            raise OptionError(f"--speed is {self.speed:g}; it must be above 0")
        if self.rate is not None and not self.rate > 0:
            raise OptionError(f"--rate is {self.rate:g}; it must be above 0")
        if (self.rate is not None) + (self.speed != 1.0) + self.as_fast_as_possible > 1:
            raise OptionError("--rate, --speed and --as-fast-as-possible exclude each other; give one")
        if self.max_frames is not None and self.max_frames < 1:
            raise OptionError(f"--max-frames is {self.max_frames}; it must be at least 1")
        if self.queue < 1 or self.subscribers < 0:
            raise OptionError("--queue is at least 1, --subscribers at least 0")

    def due(self, n_frame: int, seconds: float) -> float:
        """When a message is due, s, with so many frames in front of it, recorded after so many seconds."""
        if self.as_fast_as_possible:
            return 0.0
        return n_frame / self.rate if self.rate is not None else seconds / self.speed


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code.

    Raises
    ------
    GpuidxError
        If options or the file are wrong, or the address cannot be served.
    """
    options = parse(ReplayOptions, argv, "gpuidx replay", DESCRIPTION)
    recording = Recording(options.recording)

    def ready(address: str) -> None:
        print(f"replaying {options.recording} by {options.serve} at {address}", flush=True)

    with stopped_by_signals() as stop:
        served = serve(outgoing(recording, options), options, ready, stop)
    if recording.n_cut_off:
        log.warning(
            "%s was cut off: its last %d bytes are no message", options.recording, recording.n_cut_off
        )
    print(served, flush=True)
    return 0


def outgoing(recording: Recording, options: ReplayOptions) -> Iterator[Outgoing]:
    """What to send, and when."""
    n_frame, round_begins, last, step = 0, 0.0, 0.0, 0.0
    while True:
        n_message, first = 0, None
        for message in recording:
            if options.link is not None and message.link != options.link:
                continue
            if n_frame == options.max_frames:
                return
            first = message.time if first is None else first
            seconds = round_begins + message.time - first
            is_frame = role_of(message.parts) == FRAME
            yield Outgoing(message.parts, options.due(n_frame, seconds), is_frame)
            n_message, n_frame = n_message + 1, n_frame + is_frame
            step, last = seconds - last, seconds
        if not options.loop or not n_message:
            return
        round_begins = last + step
