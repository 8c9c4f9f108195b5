# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames as messages of ASAP::O: a payload, and metadata beside it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuidx.simulation.encoder import Sized
from gpuidx.simulation.messages import NUMBER_KEY, EncodedFrame

ASAPO_FORMATS = ("msgpack", "hdf5", "seedee", "cbf")
"""Formats whose frames need no message that begins a series."""


@dataclass(frozen=True, slots=True)
class AsapoFrame:
    """A message that may be sent several times.

    Attributes
    ----------
    n_byte
        Of the payload.
    payload
        The payload with a frame number, where the format has one; called in any thread.
    meta
        Metadata, but for the frame number.
    """

    n_byte: int
    payload: Callable[[int], bytes | bytearray]
    meta: Mapping[str, Any]

    @classmethod
    def of(cls, message: Sized) -> "AsapoFrame":
        """A message of one part, or of Seedee's two, of which the first are metadata."""
        if isinstance(message, EncodedFrame):
            return cls(message.n_byte, message.numbered_copy, {})
        *meta, payload = message.parts(0)
        return cls(len(payload), lambda _: payload, json.loads(meta[0]) if meta else {})

    def numbered_meta(self, number: int) -> dict[str, Any]:
        """Metadata of the message with this frame number."""
        return {**self.meta, NUMBER_KEY: number}
