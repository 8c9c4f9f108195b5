# SPDX-License-Identifier: GPL-3.0-or-later
"""CBF images, plain or gzipped, in messages and files: pixels, and the header lines of DECTRIS detectors.

A CBF file is text (CIF) with one binary section, whose own head says size, type and compression.  Read are
byte-offset compression, which all detectors write, and no compression.  The lines ``# Wavelength 0.9795 A``
of a mini-CBF header give values by their first word; a geometry says the unit: ``wavelength = Wavelength A``.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.byte_offset import LONGEST, unpack_byte_offset
from gpuidx.formats.cbf_header import binary_fields, header_values
from gpuidx.formats.chunks import MOST_BYTES, unpack
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.formats.named_values import header_value
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.setting import Setting
from gpuidx.model import Frame, HeaderValue, Message

MAGIC = b"###CBF"
GZIP = b"\x1f\x8b"
START = b"\x0c\x1a\x04\xd5"
"""Stands in front of the pixels."""

MOST_HEADER = 1 << 18
"""Bytes of text in front of the pixels; those of detectors have 1500."""

MOST_BEHIND = 1 << 16
"""Bytes behind the pixels that are unpacked to see gzip's checksum; usual are 4095 and a few words."""

TYPES = {
    '"signed 8-bit integer"': "|i1", '"unsigned 8-bit integer"': "|u1",
    '"signed 16-bit integer"': "<i2", '"unsigned 16-bit integer"': "<u2",
    '"signed 32-bit integer"': "<i4", '"unsigned 32-bit integer"': "<u4",
    '"signed 32-bit real IEEE"': "<f4", '"signed 64-bit real IEEE"': "<f8",
}  # fmt: skip


class ImageForm(NamedTuple):
    """What the head of the binary section says."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]
    size: int
    compressed: bool


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be a CBF image: one part that begins like one, perhaps gzipped."""
    return len(parts) == 1 and _is_cbf(bytes(parts[0][:512]))


def file_begins(filename: str) -> bool:
    """Whether a file can be a CBF image; False if it cannot be read."""
    try:
        with Path(filename).open("rb") as file:
            return _is_cbf(file.read(512))
    except (OSError, ValueError):  # a name may hold a null character
        return False


def _is_cbf(head: bytes) -> bool:
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, len(MAGIC))
        except zlib.error:
            return False
    return head.startswith(MAGIC)


def read_file(filename: str) -> memoryview:
    """All of a file.

    Raises
    ------
    Rejected
        If it cannot be read, or is too long for an image.
    """
    try:
        with Path(filename).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise Rejected(
                    "file cannot be read", f"{filename}: {size} bytes; expected at most {MOST_BYTES}"
                )
            return memoryview(file.read(size))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Rejected("file cannot be read", f"{filename}: {why}") from error


def check_complete(filename: str) -> None:
    """See whether all pixels of an image are in its file.

    Raises
    ------
    Rejected
        If they are not, or it is no image.
    """
    content = _Content(read_file(filename))
    text, begin = content.head()
    content.section(begin, image_form(binary_fields(text)).size)


class CbfDecoder:
    """Decodes the messages of one run; made from the run's setting."""

    def __init__(self, setting: Setting) -> None:
        self._frames = OneImage(setting)

    def decode(self, message: Message) -> Frame:
        """The frame of a message.

        Raises
        ------
        Rejected
            If anything that is needed is missing, malformed or absurd.
        """
        content = _Content(message.data)
        text, begin = content.head()
        values = _Values(text)

        def image() -> NDArray[Any]:
            form = image_form(binary_fields(text))
            self._frames.checked(form.shape)
            return pixels(content.section(begin, form.size), form)

        return self._frames.frame(message, values.get, image)

    def decode_file(self, message: Message) -> Frame:
        """The frame of the file `Message.filename`, which the user named; errors as `decode`."""
        return self.decode(replace(message, data=read_file(message.filename)))


class _Values:
    """Header values, read from the text once one is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: Mapping[str, HeaderValue] | None = None

    def get(self, name: str) -> HeaderValue:
        if self._found is None:
            self._found = header_values(self._text)
        return header_value((self._found,), name)


class _Content:
    """Bytes of an image, unpacked no further than they are needed.

    Raises
    ------
    Rejected
        If it is no CBF image.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._inflater = None
        self._head = bytes(data[:MOST_HEADER])
        if self._head.startswith(GZIP):
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._head = self._inflated(data, MOST_HEADER)
        if not self._head.startswith(MAGIC):
            raise Rejected("not a CBF image", f"it begins with {self._head[:8]!r}; expected {MAGIC!r}")

    def _inflated(self, data: memoryview | bytes, most: int) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.decompress(data, most)
        except (zlib.error, MemoryError) as error:
            raise Rejected("damaged image", f"gzip: {error}") from error

    def head(self) -> tuple[str, int]:
        """The text in front of the pixels, and where these begin."""
        end = self._head.find(START)
        if end < 0:
            raise Rejected("damaged image", f"no pixels begin in its first {len(self._head)} bytes")
        return self._head[:end].decode("latin-1"), end + len(START)

    def section(self, begin: int, size: int) -> memoryview:
        """Bytes by place and number."""
        if self._inflater is None:
            found = self._data[begin : begin + size]
        else:
            rest = b""
            if not self._inflater.eof:
                room = max(begin + size - len(self._head), 0) + MOST_BEHIND
                rest = self._inflated(self._inflater.unconsumed_tail, room)
            known = self._head[begin : begin + size]
            found = memoryview(known + rest[: size - len(known)] if known else rest)[:size]
        if len(found) < size:
            raise Rejected("damaged image", f"truncated: {len(found)} bytes of pixels; {size} are expected")
        return found


def image_form(fields: Mapping[str, str]) -> ImageForm:
    """Type, shape, size and compression of the pixels, from the head of the binary section.

    Raises
    ------
    Rejected
        If they are not understood, or contradict each other.
    """
    conversion = fields.get("conversions", "")
    if conversion not in ("", "x-CBF_BYTE_OFFSET"):
        raise Rejected("unknown compression", f"{conversion!r:.60}; expected x-CBF_BYTE_OFFSET or none")
    order = fields.get("X-Binary-Element-Byte-Order", "LITTLE_ENDIAN")
    if order != "LITTLE_ENDIAN":
        raise Rejected(
            "damaged image", f"X-Binary-Element-Byte-Order is {order!r:.60}; expected LITTLE_ENDIAN"
        )
    letters = TYPES.get(fields.get("X-Binary-Element-Type", '"unsigned 32-bit integer"'))
    if letters is None or (conversion and "f" in letters):
        raise Rejected(
            "damaged image",
            f"X-Binary-Element-Type is {fields['X-Binary-Element-Type']!r:.60}",
        )
    width, height = (_count(fields, f"X-Binary-Size-{name}-Dimension") for name in ("Fastest", "Second"))
    size, pixel_count = _count(fields, "X-Binary-Size"), width * height
    for key, expected in (("X-Binary-Size-Third-Dimension", 1), ("X-Binary-Number-of-Elements", pixel_count)):
        if key in fields and _count(fields, key) != expected:
            raise Rejected("damaged image", f"{key} is {fields[key]!r:.60}; expected {expected}")
    if not pixel_count <= size <= LONGEST * pixel_count or pixel_count > MOST_BYTES // 4:
        raise Rejected("damaged image", f"X-Binary-Size is {size}; that is none of {height} × {width} pixels")
    return ImageForm(DTYPE_OF[letters], (height, width), size, bool(conversion))


def _count(fields: Mapping[str, str], key: str) -> int:
    text = fields.get(key, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) > 0):
        raise Rejected("damaged image", f"{key} is {text!r:.60}; expected a positive integer")
    return int(text)


def pixels(data: memoryview, form: ImageForm) -> NDArray[Any]:
    """The image, of its own type without compression; unpacked it is i4, or u4 if it claims to be.

    Like CrystFEL 0.12, other types are not believed: differences may lead to any value.

    Raises
    ------
    Rejected
        If the bytes are not those of such an image.
    """
    if not form.compressed:
        return unpack(data, "none", form.dtype, form.shape)
    count = form.shape[0] * form.shape[1]
    image: NDArray[Any] = unpack_byte_offset(data, count).reshape(form.shape)
    return image.view(np.uint32) if form.dtype.str == "<u4" else image
