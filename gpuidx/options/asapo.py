# SPDX-License-Identifier: GPL-3.0-or-later
"""ASAP::O as a source."""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import ASAPO
from gpuidx.secret import Secret


@dataclass(frozen=True, kw_only=True)
class AsapoOptions:
    """Which messages of which service, as which reader."""

    asapo_endpoint: str | None = option(
        None, group=ASAPO, metavar="HOST:PORT", help="receive frames from the ASAP::O service there"
    )
    asapo_token: Secret | None = option(  # noqa: RUF009  (it gives a field)
        None, group=ASAPO, metavar="TOKEN", type=Secret,
        help="token of the beamtime; others can see it in the list of processes until the run has begun, so "
        "--asapo-token-file or the environment variable GPUIDX_ASAPO_TOKEN are better",
    )  # fmt: skip
    asapo_token_file: str | None = option(None, group=ASAPO, metavar="FILE", help="file that holds the token")
    asapo_beamtime: str | None = option(None, group=ASAPO, metavar="ID", help="beamtime")
    asapo_source: str | None = option(
        None, group=ASAPO, metavar="NAME", help="data source, as a rule a detector"
    )
    asapo_group: str | None = option(
        None, group=ASAPO, metavar="NAME",
        help="readers of one group share the messages; a new run of a group goes on where the last one ended",
    )  # fmt: skip
    asapo_stream: str | None = option(
        None, group=ASAPO, metavar="NAME", help="stream, as a rule a run of the detector"
    )
    asapo_wait_for_stream: bool = option(
        False, group=ASAPO, help="wait without limit for a stream that has no data yet"
    )
    asapo_follow: bool = option(
        False, group=ASAPO, help="when the stream ends go on with the one that comes next"
    )
    asapo_acks: bool = option(
        False, group=ASAPO,
        help="acknowledge each message when its result is in the file; others are sent again, to any reader",
    )  # fmt: skip
    asapo_output_stream: bool = option(
        False, group=ASAPO,
        help="send hits on to the data source NAME_hits, and 8 bytes for each other frame of the stream",
    )  # fmt: skip
    asapo_resend_after: float = option(
        60.0, group=ASAPO, metavar="S",
        help="with --asapo-acks: a message that is not acknowledged comes again; more than a frame takes",
    )  # fmt: skip
    asapo_consumer_timeout: int = option(
        500, group=ASAPO, metavar="MS", help="time that one request waits for data"
    )
    asapo_readers: int = option(1, group=ASAPO, metavar="N", help="processes that fetch messages")
