# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages sent over ZeroMQ; `gpuidx simulate`, `gpuidx replay` and `gpuidx relay` do it."""

from gpuidx.serving.messages import Outgoing, Repeatable, Served, in_turn
from gpuidx.serving.server import serve
from gpuidx.serving.settings import SERVING, PlaceSettings, ServeSettings

__all__ = [
    "SERVING",
    "Outgoing",
    "PlaceSettings",
    "Repeatable",
    "ServeSettings",
    "Served",
    "in_turn",
    "serve",
]
