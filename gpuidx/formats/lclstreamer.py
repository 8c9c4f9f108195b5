# SPDX-License-Identifier: GPL-3.0-or-later
"""LCLStreamer's "Simplon" serializer: a letter, then a CBOR map that is much like DECTRIS'.

``m`` stands before images and ``c`` before the start and stop of a run.  An image says the type of its pixels
but not its shape, which the start message has; without that the geometry's own is taken.  Its pixels are
blocks of bitshuffle and LZ4 without the head of HDF5.  What its other serializer sends are HDF5 files.
"""

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from gpuidx.errors import Rejected
from gpuidx.formats import cbor
from gpuidx.formats.cbor import Entries
from gpuidx.formats.chunks import LZ4_RATIO, MOST_BYTES, Chunk, checked
from gpuidx.formats.dectris_v1 import TYPES
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.formats.named_values import header_value
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.planes import shape_of
from gpuidx.formats.setting import Setting
from gpuidx.formats.starts import Start, Starts
from gpuidx.model import Frame, Message, source_id_of

IMAGE, CONTROL = b"m", b"c"

BLOCK = 4096
"""Elements of a block."""

MOST_DIGITS = 40
"""Characters of a shape like ``32x512x1024``."""

_BEGINS = re.compile(rb"[cm][\xa1-\xbb\xbf]")
_TYPE = re.compile(rb"dtype[\x60-\x77](start|image|stop)")


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be of this format, by its first bytes."""
    first = bytes(parts[-1][:256]) if parts else b""
    return _BEGINS.match(first) is not None and _TYPE.search(first) is not None


class LclstreamerDecoder:
    """Decodes the messages of one run; made from the run's setting."""

    def __init__(self, setting: Setting) -> None:
        self.geometry, self.notes = setting.geometry, setting.notes
        self._frames = OneImage(setting)
        self._starts = Starts(self._read_start, setting.notes)

    def decode(self, message: Message) -> Frame:
        """The frame of a message.

        Raises
        ------
        Rejected
            If it is none, or anything that is needed is missing, malformed or absurd.
        """
        letter = bytes(message.data[:1])
        if letter != IMAGE:
            raise Rejected("not an image", f"the message begins with {letter!r}; images with {IMAGE!r}")
        fields = Entries(message.data[1:], "the message", self.notes)
        if fields.get("type") != "image":
            raise Rejected("not an image", f"the message is of type {fields.get('type')!r:.40}")
        start = self._starts.of(message, {"run": fields["run"]} if "run" in fields else {})
        maps = (fields, *start.values)
        return self._frames.frame(
            message,
            lambda name: header_value(maps, name),
            lambda: self._image(fields, start),
            source_id=source_id_of(fields.get("run"), fields.get("message_id")),
        )

    def _image(self, fields: Entries, start: Start) -> Chunk:
        data = cbor.binary(fields.get_item("compressed_data"))
        name = fields.get("dtype")
        if data is None:
            raise Rejected("wrong type", "'compressed_data' is no byte string")
        if not isinstance(name, str) or name not in TYPES:
            raise Rejected("unknown pixel type", f"'dtype' is {name!r:.40}; expected for instance 'float64'")
        letters = TYPES[name]
        dtype = DTYPE_OF["|" + letters if letters[1:] == "1" else "<" + letters]
        shape = _shape(start.values)
        if shape is None:
            shape = shape_of(self.geometry.arrays)
            self.notes["images of a shape that no start message told"] += 1
        shape = self._frames.checked(shape)
        size = math.prod(shape) * dtype.itemsize
        if size > min(MOST_BYTES, LZ4_RATIO * (len(data) + 1)):
            raise Rejected("damaged image", f"{len(data)} bytes cannot make {shape} pixels of type {name}")
        framed = b"".join((struct.pack(">QI", size, BLOCK * dtype.itemsize), data))
        return checked(memoryview(framed), "bslz4", dtype, shape)

    def _read_start(self, parts: Sequence[memoryview]) -> Start:
        if bytes(parts[-1][:1]) != CONTROL:
            raise Rejected("not a start message", "it is none of LCLStreamer's")
        fields = Entries(parts[-1][1:], "the start message", self.notes)
        if fields.get("type") != "start":
            raise Rejected("not a start message", "its type is another one")
        return Start((fields,), {"run": fields["run_number"]} if "run_number" in fields else {})


def _shape(start: Sequence[Mapping[str, Any]]) -> tuple[int, ...] | None:
    """The shape that a start message tells, like ``32x512x1024``."""
    text = next((one["shape"] for one in start if "shape" in one), None)
    if not isinstance(text, str) or len(text) > MOST_DIGITS or not re.fullmatch(r"[0-9]+(x[0-9]+)*", text):
        return None
    return tuple(map(int, text.split("x")))
