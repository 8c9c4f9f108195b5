# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of variable length in HDF5 messages, read without HDF5, which runs in circles in a damaged heap.

Such a text lies in a global heap: `HDF5 File Format Specification 3.0, III.E`.  A data set holds for each its
length, the address of the heap, and its number there.
"""

import struct

from gpuidx.errors import Rejected
from gpuidx.formats.lookup import LONGEST_TEXT

REFERENCE = struct.Struct("<IQI")
"""Length, address of the heap, number of the object."""

_HEAP = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")


def text_at(message: memoryview, base: int, reference: bytes, name: str) -> bytes:
    """The text that a reference stands for.

    Parameters
    ----------
    message
        The file.
    base
        Where addresses count from: the size of the user block.
    reference
        As `REFERENCE`.
    name
        Of the data set, for texts.

    Raises
    ------
    Rejected
        If it is longer than any header value, or not where it is said to be.
    """
    length, address, wanted = REFERENCE.unpack(reference)
    if length > LONGEST_TEXT:
        raise Rejected("bad header value", f"'{name}' is text of {length} characters")
    begin = base + address
    if length == 0 or begin + _HEAP.size > len(message):
        raise Rejected("bad header value", f"'{name}' is empty, or text outside the message")
    signature, version, size = _HEAP.unpack_from(message, begin)
    if signature != b"GCOL" or version != 1:
        raise Rejected("damaged HDF5 file", f"'{name}' is text in a heap that is none")
    heap = message[begin : min(begin + size, len(message))]
    at = _HEAP.size
    while at + _OBJECT.size <= len(heap):
        number, _, _, size = _OBJECT.unpack_from(heap, at)
        at += _OBJECT.size
        if number == wanted and number != 0 and length <= size <= len(heap) - at:
            return bytes(heap[at : at + length])
        if number in (0, wanted):  # 0 is the room that is left, at the end
            break
        at += -(-size // 8) * 8
    raise Rejected("damaged HDF5 file", f"'{name}' is text that is not in its heap")
