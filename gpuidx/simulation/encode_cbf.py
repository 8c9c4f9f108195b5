# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as CBF files with a mini-CBF header, as DECTRIS detectors write them."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = b"\x0c\x1a\x04\xd5"
PADDING = 4095

_LIMITS = (1 << 7, 1 << 15, 1 << 31)
_SIZES = (1, 2, 4, 8)

TYPES = {
    "i1": "signed 8-bit integer", "u1": "unsigned 8-bit integer",
    "i2": "signed 16-bit integer", "u2": "unsigned 16-bit integer",
    "i4": "signed 32-bit integer", "u4": "unsigned 32-bit integer",
}  # fmt: skip


def pack_byte_offset(image: NDArray[Any]) -> bytes:
    """The pixels of an image of integers in byte-offset compression (see `gpuidx.formats.byte_offset`)."""
    difference = np.diff(image.ravel().astype(np.int64), prepend=np.int64(0))
    # How many escapes stand in front of each difference: 0 to 3.
    step = np.sum([abs(difference) >= limit for limit in _LIMITS], axis=0, dtype=np.intp)
    length = np.cumsum(_SIZES)[step]
    begin = np.concatenate(([0], np.cumsum(length)[:-1]))
    packed = np.zeros(int(length.sum()), np.uint8)
    for level, size in enumerate(_SIZES):
        escapes, last = begin[step > level], step == level
        at = sum(_SIZES[:level])
        if len(escapes):
            packed[escapes + at + size - 1] = 0x80
        if last.any():
            raw = difference[last].astype(f"<i{size}").view(np.uint8).reshape(-1, size)
            for i in range(size):
                packed[begin[last] + at + i] = raw[:, i]
    return packed.tobytes()


def encode_cbf(image: NDArray[Any], values: Mapping[str, object], *, gzipped: bool = False) -> list[bytes]:
    """An image and header values as a message, or the content of a file.

    Parameters
    ----------
    image : (ss, fs)
        Integers, of up to 32 bits.
    values
        What stands in the header behind ``#``: a number or text by its first word, unit and all.
    gzipped
        Compress the whole.

    Returns
    -------
    parts
        A single one.
    """
    pixels = pack_byte_offset(image)
    name = image.dtype.str[1:]
    lines = [
        "###CBF: VERSION 1.5, CBFlib v0.7.8 - PILATUS detectors", "",
        "data_simulated", "",
        '_array_data.header_convention "PILATUS_1.2"',
        "_array_data.header_contents", ";",
        *(f"# {key} {value}" for key, value in values.items()), ";", "",
        "_array_data.data", ";",
        "--CIF-BINARY-FORMAT-SECTION--",
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(pixels)}",
        "X-Binary-ID: 1",
        f'X-Binary-Element-Type: "{TYPES[name]}"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {base64.b64encode(hashlib.md5(pixels, usedforsecurity=False).digest()).decode()}",
        f"X-Binary-Number-of-Elements: {image.size}",
        f"X-Binary-Size-Fastest-Dimension: {image.shape[1]}",
        f"X-Binary-Size-Second-Dimension: {image.shape[0]}",
        f"X-Binary-Size-Padding: {PADDING}", "", "",
    ]  # fmt: skip
    whole = "\r\n".join(lines).encode("latin-1") + START + pixels + bytes(PADDING)
    whole += b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n\r\n"
    if gzipped:
        packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        whole = packer.compress(whole) + packer.flush()
    return [whole]
