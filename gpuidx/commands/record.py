# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx record``: raw messages of a live source into a file."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Optional

from gpuidx import __version__
from gpuidx.arguments import option, parse
from gpuidx.errors import OptionError, SourceError
from gpuidx.flow.output import Output
from gpuidx.options import LinkOptions, check_least, check_links
from gpuidx.reception import Limits, Reception
from gpuidx.recording.file import header
from gpuidx.recording.writer import Writer
from gpuidx.sources.contract import END, FRAME, START, LiveSource
from gpuidx.sources.receivers import open_links

log = logging.getLogger(__name__)

DESCRIPTION = """Records the raw messages of a live source, taken with the same options as in a run, for
'gpuidx replay'.  Ctrl-C ends the recording; what was recorded stays readable whatever ends it."""

RECORDING = "Recording"


@dataclass(frozen=True, kw_only=True)
class RecordOptions(LinkOptions):
    """All options of the command."""

    output: str = option("", "-o", "--output", group=RECORDING, metavar="FILE", help="file to record to")
    max_seconds: Optional[float] = option(  # noqa: UP045
        None, group=RECORDING, metavar="S", help="end so many seconds after the first message"
    )
    max_size: Optional[float] = option(  # noqa: UP045
        None, group=RECORDING, metavar="MB", help="end when the file is so large"
    )
    memory: int = option(
        1000, group=RECORDING, metavar="MB",
        help="messages that may wait while the disk is slow; more of a publisher's are lost, and counted",
    )  # fmt: skip
    image_data: bool = option(
        True, group=RECORDING, off=True, help="messages are small: they hold peak lists, but no image"
    )

    def __post_init__(self) -> None:
        if not self.output:
            raise OptionError("no file to record to; give one with -o")
        if not self.zmq_input:
            raise OptionError("no sender; give its address with --zmq-input")
        check_links(self)
        check_least(self)
        for name, value in (("max-seconds", self.max_seconds), ("max-size", self.max_size)):
            if value is not None and not value > 0:
                raise OptionError(f"--{name} is {value:g}; it must be above 0")
        if self.memory < 1:
            raise OptionError(f"--memory is {self.memory}; it must be at least 1")

    @property
    def limits(self) -> Limits:
        """As the loop takes them."""
        n_byte = None if self.max_size is None else 1e6 * self.max_size
        return Limits(self.max_frames, self.max_seconds, n_byte, self.no_data_timeout)


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code.

    Raises
    ------
    GpuidxError
        If options are wrong, the source gives nothing, or the file cannot be written.
    """
    options = parse(RecordOptions, argv, "gpuidx record", DESCRIPTION)
    sources = _sources(options)
    described = {
        "program": f"gpuidx {__version__}",
        "started": time.time(),
        "addresses": list(options.zmq_input),
        "options": {key: value for key, value in asdict(options).items() if "key" not in key},
    }
    output = Output(options.output, header(described), overwrite=False)
    try:
        tags = [os.fsencode(tag) for tag in options.zmq_subscribe]
        writer = Writer(output, options.memory * 1_000_000)
        with Reception(sources, writer, tags, options.limits) as recorder:
            log.info("recording to %s; Ctrl-C ends it", options.output)
            recorder.loop()
        _conclude(recorder, output, options)
        recorder.finish()
    finally:
        output.close()
        if not output.n_chunk and Path(options.output).is_file():
            Path(options.output).unlink()  # so that the same command line can be given again
    if not output.n_chunk and not recorder.stop.since:
        raise SourceError("no data came from the source")
    return 0


def _sources(options: RecordOptions) -> list[LiveSource]:
    """A source for each address, so that it is known where a message came from."""
    each = max(1, options.zmq_requests // max(1, len(options.zmq_input)))
    return [
        open_links(replace(options, zmq_input=(address,), zmq_requests=each)) for address in options.zmq_input
    ]


def _conclude(recorder: Reception, output: Output, options: RecordOptions) -> None:
    counts, n_byte, seconds = recorder.counts, output.size, recorder.seconds
    rate = f", {(counts[FRAME] - 1) / seconds:.1f} a second" if seconds and counts[FRAME] > 1 else ""
    series = counts[START] + counts[END]
    log.info(
        "%d messages in %s, %.1f MB: %d frames received in %.1f s%s%s%s%s",
        output.n_chunk, options.output, n_byte / 1e6, counts[FRAME], seconds, rate,
        f", {series} starts and ends of series" if series else "",
        f", {counts[None]} short messages" if counts[None] else "",
        f", {counts['dropped']} lost: the disk was too slow" if counts["dropped"] else "",
    )  # fmt: skip
    for source in recorder.sources:
        for note, number in source.notes.items():
            if number:
                log.info("%d %s", number, note)
