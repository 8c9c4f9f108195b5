# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of CBF files: header values of mini-CBF (DECTRIS), and the head of the binary section (MIME).

Not read are CIF's own items and loops: no detector writes wavelength or distance there alone.
"""

import re
from collections.abc import Mapping

from gpuidx.formats.lookup import LONGEST_TEXT
from gpuidx.model import HeaderValue

SECTION = "--CIF-BINARY-FORMAT-SECTION--"

_NAME = re.compile(r"[A-Za-z_][\w.\-]*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_PAIR = re.compile(r"\(?[ \t]*([^\s,()]+)[ \t]*,[ \t]*([^\s,()]+)[ \t]*\)")
_CONVERSIONS = re.compile(r'conversions[ \t]*=[ \t]*"?([^\s";]+)')

_MOST_DIGITS = 18
_LONGEST_NUMBER = 40


def header_values(text: str) -> Mapping[str, HeaderValue]:
    """The values of lines that begin with ``#``, by their first word.

    A value is the number behind it, without its unit, else all text.  ``Beam_xy (1261.6, 1306.9) pixels``
    gives ``Beam_x`` and ``Beam_y`` too.  Of lines with the same word the first counts.
    """
    values: dict[str, HeaderValue] = {}
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("##"):
            continue
        words = line[1:].strip()
        found = _NAME.match(words)
        if found is None:
            continue
        name, rest = found[0], words[found.end() :].lstrip()
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip()
        if not rest:
            continue
        values.setdefault(name, _value(rest))
        pair = _PAIR.match(rest)
        if pair is not None and name.endswith("_xy"):
            values.setdefault(f"{name[:-3]}_x", _value(pair[1]))
            values.setdefault(f"{name[:-3]}_y", _value(pair[2]))
    return values


def _value(text: str) -> HeaderValue:
    word = text[:_LONGEST_NUMBER].partition(" ")[0].rstrip(",;")
    if len(word) == _LONGEST_NUMBER or _NUMBER.fullmatch(word) is None:
        return text[:LONGEST_TEXT]
    return int(word) if word.lstrip("+-").isdecimal() and len(word) <= _MOST_DIGITS else float(word)


def binary_fields(text: str) -> dict[str, str]:
    """The head of the binary section, the last lines of the text: values by name, and ``conversions``.

    Of fields with the same name the first counts.
    """
    fields: dict[str, str] = {}
    for line in text[text.rfind(SECTION) + 1 :].splitlines():
        name, colon, value = line.partition(":")
        if colon and name[:1].isalpha():
            fields.setdefault(name.strip(), value.strip())
        conversions = _CONVERSIONS.search(line)
        if conversions is not None:
            fields.setdefault("conversions", conversions[1])
    return fields
