# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are more than a word or a number, and the headings of the help."""

from collections.abc import Callable

BASIC = "Basic options"
PEAKS = "Peak search options"
INDEXING = "Indexing options"
INTEGRATION = "Integration options"
OUTPUT = "Output options"
ASAPO = "Options for ASAP::O"
RUN = "Running gpuidx"


def numbers(*counts: int) -> Callable[[str], tuple[float, ...]]:
    """A parser of comma-separated numbers, as many as one of *counts* says."""

    def parse(text: str) -> tuple[float, ...]:
        values = tuple(float(word) for word in text.split(","))
        if len(values) not in counts:
            raise ValueError(text)
        return values

    parse.__name__ = " or ".join(map(str, counts)) + " numbers separated by commas,"
    return parse


def tolerance(text: str) -> tuple[float, ...]:
    """``a,b,c,al,be,ga`` in percent and degrees; of four numbers the last holds for all angles."""
    values = numbers(4, 6)(text)
    return values if len(values) == 6 else (*values[:3], values[3], values[3], values[3])


tolerance.__name__ = "four or six numbers separated by commas,"


def devices(text: str) -> tuple[int, ...]:
    """``0,1``: these devices, each once, in this order; ``all``: an empty tuple."""
    if text == "all":
        return ()
    if not all(word.isascii() and word.isdigit() for word in text.split(",")):
        raise ValueError(text)
    return tuple(dict.fromkeys(int(word) for word in text.split(",")))


devices.__name__ = "all or device numbers separated by commas,"
