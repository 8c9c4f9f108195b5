# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader of Millepede-II's binary records, of its C form; nothing of gpuidx."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """What was measured, its sigma, and the derivatives by label."""

    value: float
    sigma: float
    local: dict[int, float]
    movement: dict[int, float]


def read_records(path: Path) -> list[list[Measurement]]:
    """The measurements of each record of a file."""
    return records_of(path.read_bytes())


def measurements(data: bytes) -> list[Measurement]:
    """The measurements of the only record."""
    (record,) = records_of(data)
    return record


def records_of(data: bytes) -> list[list[Measurement]]:
    """The same for the bytes of a file."""
    words = np.frombuffer(data, np.int32)
    records = []
    while len(words):
        n = int(words[0]) // 2
        assert words[0] == 2 * n
        values, labels = words[1 : 1 + n].view(np.float32), words[1 + n : 1 + 2 * n]
        assert len(labels) == n
        assert values[0] == labels[0] == 0
        records.append(_measurements(values[1:].tolist(), labels[1:].tolist()))
        words = words[1 + 2 * n :]
    return records


def _measurements(values: list[float], labels: list[int]) -> list[Measurement]:
    zeros = [place for place, label in enumerate(labels) if label == 0]
    found = []
    for begin, middle, end in zip(zeros[::2], zeros[1::2], [*zeros[2::2], len(labels)], strict=True):
        local = dict(zip(labels[begin + 1 : middle], values[begin + 1 : middle], strict=True))
        movement = dict(zip(labels[middle + 1 : end], values[middle + 1 : end], strict=True))
        found.append(Measurement(values[begin], values[middle], local, movement))
    return found
