# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages are sent: options of the commands that serve.

argparse-dataclass reads the field types at run time, so there is no `from __future__ import annotations`.
"""

from dataclasses import dataclass
from typing import Optional

import zmq

from gpuidx.arguments import option

SERVING = "Serving over ZeroMQ"
"""Heading of the options."""

KINDS = {"rep": zmq.REP, "router": zmq.ROUTER, "pub": zmq.XPUB, "push": zmq.PUSH}


@dataclass(frozen=True, kw_only=True)
class PlaceSettings:
    """Where readers find messages, and how they ask for them."""

    bind: str = option(
        "tcp://127.0.0.1:*", group=SERVING, metavar="ADDRESS", help="where to serve; * takes a free port"
    )
    connect: Optional[str] = option(  # noqa: UP045
        None, group=SERVING, metavar="ADDRESS",
        help="connect to this address instead, where a reader waits (--zmq-bind)",
    )  # fmt: skip
    request: str = option(
        "next", group=SERVING, metavar="STRING", help="the request that a router answers; if empty, any"
    )


@dataclass(frozen=True, kw_only=True)
class ServeSettings(PlaceSettings):
    """How messages are sent."""

    serve: str = option(
        "none", group=SERVING, metavar="SOCKET", choices=("none", *KINDS),
        help="send frames: rep answers any request, router those of OM, pub sends to all, push to one of all",
    )  # fmt: skip
    tag: str = option("", group=SERVING, metavar="TAG", help="tag of published messages")
    tag_form: str = option(
        "part", group=SERVING, metavar="FORM", choices=("part", "glued"),
        help="a tag is a part of its own, or glued to the front of the message",
    )  # fmt: skip
    subscribers: int = option(
        1, group=SERVING, metavar="N", help="publish only when there are so many subscriptions"
    )
    queue: int = option(
        50, group=SERVING, metavar="N",
        help="messages that are kept for a slow reader; a subscriber loses what is more",
    )  # fmt: skip
