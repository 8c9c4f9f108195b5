# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx relay``: a live source shared out among many readers."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from gpuidx.arguments import option, parse
from gpuidx.errors import OptionError, SourceError
from gpuidx.options import LinkOptions, check_least, check_links
from gpuidx.reception import Limits, Reception
from gpuidx.relaying import Relay
from gpuidx.serving import SERVING, PlaceSettings, ServeSettings
from gpuidx.sources.contract import END, FRAME, START
from gpuidx.sources.receivers import open_links

log = logging.getLogger(__name__)

DESCRIPTION = """Receives the messages of a live source, taken with the same options as in a run, and gives
each to one of many readers: gpuidx --zmq-input=ADDRESS --zmq-request=next.  docs/scale.md has examples."""

ANY = ""
"""A request that any is like."""


@dataclass(frozen=True, kw_only=True)
class RelayOptions(PlaceSettings, LinkOptions):
    """All options of the command."""

    serve: str = option(
        "router", group=SERVING, metavar="SOCKET", choices=("router", "rep", "push"),
        help="router answers the request --request, rep any one, push sends to one of those that pull",
    )  # fmt: skip
    memory: int = option(
        1000, group=SERVING, metavar="MB",
        help="messages that may wait for readers; more of a publisher's are lost, and counted",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.zmq_input:
            raise OptionError("no sender; give its address with --zmq-input")
        check_links(self)
        check_least(self)
        if self.memory < 1:
            raise OptionError(f"--memory is {self.memory}; it must be at least 1")

    @property
    def settings(self) -> ServeSettings:
        """How messages are given out: a router that takes any request is as good as REP, for many readers."""
        kind, request = ("router", ANY) if self.serve == "rep" else (self.serve, self.request)
        return ServeSettings(serve=kind, bind=self.bind, connect=self.connect, request=request)


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code.

    Raises
    ------
    GpuidxError
        If options are wrong, an address cannot be served, or the source gives nothing.
    """
    options = parse(RelayOptions, argv, "gpuidx relay", DESCRIPTION)
    source = open_links(options)
    tags = sorted((os.fsencode(tag) for tag in options.zmq_subscribe), key=len, reverse=True)
    relay = Relay(options.settings, options.memory * 1_000_000, tags)
    print(f"relaying {', '.join(options.zmq_input)} by {options.serve} at {relay.address}", flush=True)
    limits = Limits(frames=options.max_frames, silence=options.no_data_timeout)
    with Reception([source], relay, tags, limits) as reception:
        reception.loop()
    _conclude(reception, relay)
    reception.finish()
    if not reception.counts.total() and not reception.stop.since:
        raise SourceError("no data came from the source")
    return 0


def _conclude(reception: Reception, relay: Relay) -> None:
    """Say what became of every message."""
    counts = reception.counts
    log.info(
        "%d frames received%s%s; %s%s", counts[FRAME],
        f", {counts[START] + counts[END]} starts and ends of series" if counts[START] + counts[END] else "",
        f", {counts[None]} short messages" if counts[None] else "",
        relay.served,
        f"; {counts['dropped']} messages lost: readers were too slow, or none was left" if counts["dropped"]
        else "",
    )  # fmt: skip
    for source in reception.sources:
        for note, number in source.notes.items():
            if number:
                log.info("%d %s", number, note)
