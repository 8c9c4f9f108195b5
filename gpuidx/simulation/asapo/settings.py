# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of ``gpuidx simulate --asapo``.

argparse-dataclass reads the field types at run time, so there is no `from __future__ import annotations`.
"""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.errors import OptionError
from gpuidx.simulation.asapo.faults import Fault, parse_fault

ASAPO = "Serving over ASAP::O"

STAND_IN_TOKEN = "stand-in"
"""Token where none is given; no secret."""


@dataclass(frozen=True, kw_only=True)
class AsapoSettings:
    """How frames are served by the stand-in for an ASAP::O server."""

    asapo: bool = option(
        False, group=ASAPO, help="serve frames as an ASAP::O server does, at --rate, until stopped"
    )
    asapo_host: str = option("127.0.0.1", group=ASAPO, metavar="HOST", help="address to listen at")
    asapo_port: int = option(0, group=ASAPO, metavar="PORT", help="port of the endpoint; 0: a free one")
    asapo_token: str = option(
        STAND_IN_TOKEN, group=ASAPO, metavar="TOKEN", help="token that consumers must have"
    )
    asapo_beamtime: str = option("beamtime", group=ASAPO, metavar="ID", help="beamtime of the token")
    asapo_source: str = option("detector", group=ASAPO, metavar="NAME", help="data source")
    asapo_stream: str = option("run1", group=ASAPO, metavar="NAME", help="stream, or the first of them")
    asapo_stream_frames: int = option(
        0, group=ASAPO, metavar="N", help="go on with the next stream after so many frames; 0: never"
    )
    asapo_finish: bool = option(
        False, group=ASAPO, help="set the finish flag of each stream when all of its frames are there"
    )
    asapo_fault: tuple[Fault, ...] = option(
        (), group=ASAPO, metavar="FAULT", type=parse_fault, repeat=True,
        help="let answers go wrong, as KIND,NAME=VALUE,...: lose,on=next,probability=0.05; may be repeated",
    )  # fmt: skip


def check_asapo_settings(s: AsapoSettings, n_frame: int, rate: float) -> None:
    """Refuse values that cannot be served.

    Raises
    ------
    OptionError
        Naming the option.
    """
    if not 0 <= s.asapo_port < 65536:
        raise OptionError(f"--asapo-port is {s.asapo_port}; it is from 0 to 65535")
    if s.asapo_stream_frames < 0:
        raise OptionError(f"--asapo-stream-frames is {s.asapo_stream_frames}; it must not be negative")
    for name in ("token", "beamtime", "source", "stream"):
        if not getattr(s, f"asapo_{name}"):
            raise OptionError(f"--asapo-{name} is empty")
    if s.asapo and n_frame == 0 and not rate > 0:
        raise OptionError("--asapo with --frames=0 needs a --rate: a server does not wait for consumers")
