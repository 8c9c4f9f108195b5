# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines, statements, numbers and directions of a geometry file, read as C reads them.

What the statements mean is not known here; see `gpuidx.geometry.parser`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE_END = re.compile(r"\r\n|\r|\n")
BLANKS = " \t"

_SPACE = r"[ \t\n\v\f\r]*"
_FLOAT = re.compile(
    _SPACE + r"([+-]?(?:0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?"
    r"|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan(?:\([0-9a-z_]*\))?))",
    re.IGNORECASE | re.ASCII,
)
_INTEGER = re.compile(_SPACE + r"([+-]?)([0-9]+)", re.ASCII)
_DIRECTION_CHARACTERS = frozenset("0123456789.+-xyz ")

LARGEST_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One line ``key = value`` or ``owner/key = value``.

    Attributes
    ----------
    line
        Line number from 1.
    owner
        What stands before the first slash: a panel or bad region; None for a top-level line.
    key, value
        Without blanks around; *value* is None for a line without ``=``, which is then *key*.
    """

    line: int
    owner: str | None
    key: str
    value: str | None


def statements(text: str) -> Iterator[Statement]:
    """Every line of *text* that says something; comments and empty lines are left out.

    Blanks around the slash belong to the names, as in CrystFEL.
    """
    for number, line in enumerate(LINE_END.split(text), 1):
        content = line.lstrip(BLANKS).partition(";")[0]
        if not content:
            continue
        key, equals, value = content.partition("=")
        key = key.rstrip(BLANKS)
        if not equals:
            yield Statement(number, None, key, None)
            continue
        owner, slash, field = key.partition("/")
        value = value.strip(BLANKS)
        yield Statement(number, owner, field, value) if slash else Statement(number, None, key, value)


def read_number(text: str) -> tuple[float, str]:
    """The number that *text* begins with, and the rest; 0 and all of *text* if there is none.

    The behaviour of C's ``strtod``: leading white space, hexadecimal, ``inf`` and ``nan`` count.
    """
    found = _FLOAT.match(text)
    if found is None:
        return 0.0, text
    word = found[1].lower().partition("(")[0]
    try:
        value = float.fromhex(word) if "x" in word else float(word)
    except OverflowError:
        value = -math.inf if word.startswith("-") else math.inf
    return value, text[found.end() :]


def literal(text: str) -> float | None:
    """The number that *all* of *text* is, or None; an empty text is 0, as in CrystFEL."""
    value, rest = read_number(text)
    return value if not rest else None


def read_integer(text: str) -> tuple[int, str]:
    """The integer that *text* begins with, and the rest; 0 and all of *text* if there is none.

    The behaviour of C's ``strtol``, but numbers beyond 32 bits stay at the limit.
    """
    found = _INTEGER.match(text)
    if found is None:
        return 0, text
    digits = found[2].lstrip("0") or "0"
    size = min(int(digits[:11]), LARGEST_INT)
    return -size if found[1] == "-" else size, text[found.end() :]


def direction(text: str) -> tuple[tuple[float, float, float], bool]:
    """A panel direction such as ``-0.0057x +0.99998y``.

    Returns
    -------
    vector : (xyz,)
        Repeated axes add up, an axis that is not named is 0, a term without a number is 1.
    odd
        Whether part of a coefficient was ignored (``1.2.3x`` is 1.2), as CrystFEL does.

    Raises
    ------
    ValueError
        If it is no direction; the text says why.
    """
    for character in text:
        if character not in _DIRECTION_CHARACTERS:
            hint = ", exponents are not understood" if character in "eE" else ""
            raise ValueError(f"{character!r} cannot stand in a direction{hint}")
    signed = text.replace(" ", "")
    if not signed.startswith(("+", "-")):
        signed = "+" + signed
    sums, odd = {"x": 0.0, "y": 0.0, "z": 0.0}, False
    for term in re.findall(r"[+-][^+-]*", signed):
        coefficient, axis = term[:-1], term[-1]
        if axis not in sums:
            raise ValueError(f"'{term}' has no x, y or z part")
        if len(coefficient) == 1:
            coefficient += "1"
        value, rest = read_number(coefficient)
        sums[axis] += value
        odd = odd or bool(rest)
    return (sums["x"], sums["y"], sums["z"]), odd


class Remarks:
    """Errors or warnings about a file, gathered; those of one kind are shown once, with their number."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int | None, str, int]] = {}

    def add(self, line: int | None, text: str, kind: str = "") -> None:
        """Note one; *kind* is what makes two of them alike, by default the text."""
        key = kind or text
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if key in self._found:
            first, shown, count = self._found[key]
            self._found[key] = (first, shown, count + 1)
        else:
            self._found[key] = (line, text, 1)

    def __len__(self) -> int:
        return len(self._found)

    def shown(self) -> list[tuple[int | None, str]]:
        """Line number and text of each, those with a line first, in order of lines."""
        ordered = sorted(self._found.values(), key=lambda r: (r[0] is None, r[0] or 0))
        return [
            (line, text if count == 1 else f"{text} (and {count - 1} more like this)")
            for line, text, count in ordered
        ]
