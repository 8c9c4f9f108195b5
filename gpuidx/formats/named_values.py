# SPDX-License-Identifier: GPL-3.0-or-later
"""Header values of messages that are maps within maps (JSON, CBOR), by the names in a geometry.

A name is a key, with or without a slash in front, or a path of keys and positions in lists joined by
slashes: ``detector_translation/2``.  Of a path that is not there the last key is tried, so that a geometry
for the sender's HDF5 files serves for its messages: ``/entry/instrument/beam/incident_wavelength``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gpuidx.errors import Rejected
from gpuidx.formats.lookup import check_value, what_there_is
from gpuidx.model import HeaderValue

RATIONAL = frozenset({"real_time", "start_time", "stop_time"})
"""Values that DECTRIS sends as numerator and denominator."""

LARGEST = 1 << 64
"""Integers beyond that are no header values; JSON may hold any."""


def header_value(maps: Sequence[Mapping[str, Any]], name: str) -> HeaderValue:
    """A header value by its name.

    Parameters
    ----------
    maps
        The first of them that has it is taken.
    name
        As in the geometry.

    Raises
    ------
    Rejected
        If none has it, or it is no number or text.
    """
    value = find(maps, name)
    if value is None:
        there = what_there_is(name, (key for one in maps for key in one))
        raise Rejected("missing key", f"'{name}' is not in the message, which has {there}")
    if isinstance(value, bool):
        return int(value)
    if name.rpartition("/")[2] in RATIONAL and isinstance(value, list) and len(value) == 2:
        top, bottom = value
        if isinstance(top, int) and isinstance(bottom, int) and bottom:
            return top / bottom
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Rejected("bad header value", f"'{name}' is an integer of {value.bit_length()} bits")
    return check_value(name, value)


def find(maps: Sequence[Mapping[str, Any]], name: str) -> Any:
    """A value by its name, from the first map that has it; None if none has."""
    path = name.strip("/")
    for wanted in dict.fromkeys((path, path.rpartition("/")[2])):
        for one in maps:
            found = _walk(one, wanted)
            if found is not None:
                return found
    return None


def _walk(one: Mapping[str, Any], path: str) -> Any:
    if path in one:
        return one[path]
    found: Any = one
    for key in path.split("/"):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and len(key) < 6 and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found
