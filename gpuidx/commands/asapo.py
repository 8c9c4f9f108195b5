# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx asapo``: what an ASAP::O service has, where a group of readers stands, and setting it anew."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuidx.arguments import option, parse
from gpuidx.errors import GpuidxError, OptionError
from gpuidx.options.values import ASAPO
from gpuidx.secret import Secret, read_token
from gpuidx.sources.asapo.place import NO_SUCCESSOR, Where
from gpuidx.sources.asapo.questions import RESET, STATUS, STREAMS, ask

DESCRIPTION = """WHAT is streams: which there are; status: how far a group is in each stream, or in one; or
reset: set a group to the beginning, the end or behind a message.  It asks before it does so."""

WORDS = ("streams", "status", "reset")
BEGINNING, END = "begin", "end"

_STREAM_ROW = "{:<24} {:>10}  {:<9} {:<19}  {}"
_STATUS_ROW = "{:<24} {:>10} {:>18} {:>15}"
_MOST_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class AsapoWords:
    """Options of the command; those of the service as in a run."""

    asapo_endpoint: str = option("", group=ASAPO, metavar="HOST:PORT", help="the ASAP::O service")
    asapo_token: Secret | None = option(  # noqa: RUF009  (it gives a field)
        None, group=ASAPO, metavar="TOKEN", type=Secret, help="token; better in a file or GPUIDX_ASAPO_TOKEN"
    )
    asapo_token_file: str | None = option(None, group=ASAPO, metavar="FILE", help="file that holds the token")
    asapo_beamtime: str = option("", group=ASAPO, metavar="ID", help="beamtime")
    asapo_source: str = option("", group=ASAPO, metavar="NAME", help="data source")
    asapo_group: str = option("", group=ASAPO, metavar="NAME", help="group of readers")
    asapo_stream: str = option("", group=ASAPO, metavar="NAME", help="stream")
    to: str = option(
        BEGINNING, "--to", group="Options for reset", metavar="PLACE",
        help=f"{BEGINNING}, {END}, or the id of the message that counts as the last one read",
    )  # fmt: skip
    yes: bool = option(False, "--yes", group="Options for reset", help="do not ask")
    patience: float = option(10.0, "--patience", group=ASAPO, metavar="S", help="longest wait for an answer")


def main(argv: Sequence[str]) -> int:
    """Do what the first word says; gives the exit code."""
    word = argv[0] if argv else ""
    if word not in (*WORDS, "-h", "--help"):
        raise OptionError(f"gpuidx asapo needs one of the words {', '.join(WORDS)} behind it")
    options = parse(AsapoWords, argv[word in WORDS :], "gpuidx asapo WHAT", DESCRIPTION)
    needed = ["asapo_endpoint", "asapo_beamtime", "asapo_source"]
    needed += ["asapo_group"] * (word != "streams") + ["asapo_stream"] * (word == "reset")
    for name in needed:
        if not getattr(options, name):
            raise OptionError(f"gpuidx asapo {word} needs --{name.replace('_', '-')}")
    service = _Service(options)
    return {"streams": _show_streams, "status": _show_status, "reset": _reset}[word](service, options)


class _Service:
    """The service, by questions."""

    def __init__(self, options: AsapoWords) -> None:
        self._where = Where(
            options.asapo_endpoint, options.asapo_beamtime, options.asapo_source, options.asapo_group
        )
        self._token = read_token(options.asapo_token, options.asapo_token_file)
        self._patience = options.patience

    def ask(self, what: str, stream: str = "", value: int = 0) -> dict[str, Any]:
        return ask(self._where, self._token, what, stream, value, self._patience)

    def streams(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(STREAMS)["streams"]
        return found


def _show_streams(service: _Service, options: AsapoWords) -> int:
    streams = service.streams()
    if not streams:
        print(f"source {options.asapo_source!r} has no streams")
        return 1
    print(_STREAM_ROW.format("stream", "messages", "finished", "begun", "next"))
    for stream in streams:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stream["timestampCreated"] / 1e9))
        after = str(stream.get("nextStream") or "")
        row = (stream["name"], stream["lastId"], "yes" if stream.get("finished") else "no", begun)
        print(_STREAM_ROW.format(*row, "" if after == NO_SUCCESSOR else after))
    return 0


def _show_status(service: _Service, options: AsapoWords) -> int:
    names = [options.asapo_stream] if options.asapo_stream else [s["name"] for s in service.streams()]
    print(_STATUS_ROW.format("stream", "messages", "last acknowledged", "unacknowledged"))
    for name in names:
        status = service.ask(STATUS, name)
        left = status["unacknowledged"]
        print(_STATUS_ROW.format(name, status["size"], status["last_acknowledged"] or "-", len(left)))
        if left:
            more = " ..." if len(left) > _MOST_SHOWN else ""
            print(f"  unacknowledged: {', '.join(map(str, left[:_MOST_SHOWN]))}{more}")
    return 0


def _reset(service: _Service, options: AsapoWords) -> int:
    size = service.ask(STATUS, options.asapo_stream)["size"]
    value = _place(options.to, size)
    where = {0: "the beginning", size: "the end"}.get(value, f"behind message {value}")
    what = f"group {options.asapo_group!r} in stream {options.asapo_stream!r} of {size} messages to {where}"
    if not options.yes and not _confirmed(f"Set {what}?"):
        print("nothing was changed")
        return 1
    service.ask(RESET, options.asapo_stream, value)
    print(f"set {what}")
    return 0


def _place(text: str, size: int) -> int:
    if text == BEGINNING:
        return 0
    if text == END:
        return size
    if not (text.isascii() and text.isdigit()) or int(text) > size:
        raise OptionError(f"--to={text}: it is {BEGINNING}, {END} or the id of a message, 0 to {size}")
    return int(text)


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise GpuidxError(f"{question} There is no terminal to ask; --yes does it")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
