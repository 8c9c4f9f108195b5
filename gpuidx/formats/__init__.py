# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to frames; `Decoder` recognises the format and hands the message to the one who knows it."""

from collections import Counter
from dataclasses import replace

from gpuidx.errors import Rejected
from gpuidx.formats.frame import Buffers
from gpuidx.formats.hdf5 import Hdf5Files
from gpuidx.formats.lookup import HeaderLookup
from gpuidx.formats.messages import MsgPackDecoder
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import BYTE_TYPES, PADDING, PIXEL_TYPES, Frame, Message
from gpuidx.options import Options

__all__ = ["Decoder", "detect"]

_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))

LONGEST_PADDING = 15

_FOREIGN = (
    ((b"\x89HDF\r\n\x1a\n",), "an HDF5 file"),
    ((b"###CBF",), "a CBF image"),
    ((b"\x1f\x8b",), "gzipped"),
    ((b"\xd9\xd9\xf7",), "CBOR"),
    ((b"{",), "JSON"),
)


def detect(data: memoryview) -> str:
    """The format of a message, by its first bytes; in this version that is ``"msgpack"``.

    Raises
    ------
    Rejected
        If it is a pickle, or a format that is known but not built in.
    """
    head = bytes(data[:8])
    if head.startswith(_PICKLES):
        raise Rejected(
            "a pickle",
            "a Python pickle is never opened; if this is OM's stream for its GUI, use its responding socket",
        )
    for starts, name in _FOREIGN:
        if head.startswith(starts):
            raise Rejected("format not built in", f"the message is {name}; this version reads msgpack")
    if len(head) > 1 and 0xA1 <= head[0] <= 0xBF and 0x60 <= head[1] <= 0x7B:
        raise Rejected("format not built in", "the message looks like CBOR; this version reads msgpack")
    return "msgpack"


def without_padding(message: Message) -> Message:
    """The message without the bytes in front that a source put there to align the pixels."""
    head = bytes(message.data[:LONGEST_PADDING])
    padding = len(head) - len(head.lstrip(PADDING))
    return replace(message, data=message.data[padding:]) if padding else message


class Decoder:
    """Decodes the messages and files of one run; made once per worker.

    Parameters
    ----------
    geometry, options
        Of the run.
    masks
        Tells pixels that are bad in single frames; None: all pixels are taken as they are.

    Attributes
    ----------
    notes
        Counts what was ignored without harm: further maps, duplicate keys, dropped peaks, copied headers
        that were missing.
    """

    def __init__(self, geometry: Geometry, options: Options, masks: Masks | None) -> None:
        self.notes: Counter[str] = Counter()
        headers, buffers = (
            HeaderLookup(geometry, options.copy_header, self.notes, options),
            Buffers(geometry.arrays),
        )
        self._buffers = buffers
        self._msgpack = MsgPackDecoder(geometry, options, headers, masks, buffers, self.notes)
        self._files = Hdf5Files(geometry, options, headers, masks, buffers)

    def decode(self, message: Message, room: memoryview | None = None) -> Frame:
        """The frame of a message, or of a file if the message has no data.

        Parameters
        ----------
        message
            What came.
        room
            Where the image shall lie for a device, if it fits, unless it can stay in the message; single
            bytes stay what they are then (see `gpuidx.formats.frame.widened`).

        Raises
        ------
        Rejected
            If the frame cannot be used; says the key, what was found and what is expected.
        """
        self._buffers.room = room
        self._buffers.types = PIXEL_TYPES if room is None else (*PIXEL_TYPES, *BYTE_TYPES)
        if not message.data:
            return self._files.decode(message)
        message = without_padding(message)
        detect(message.data)
        return self._msgpack.decode(message)

    def frame_count(self, message: Message) -> int:
        """How many frames a message holds.

        Raises
        ------
        Rejected
            If it holds none.
        """
        return 1

    def close(self) -> None:
        """Close the files that are still open."""
        self._files.close()
