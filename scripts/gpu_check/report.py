# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: data as JSON, the same for people as text, both written anew after each part."""

import json
import sys
import time
from pathlib import Path
from typing import Any

PRETENDED = "PRETENDED DEVICE: there is no GPU here; no time or rate below means anything"


class Report:
    """Collects lines and data.

    Parameters
    ----------
    folder
        Where ``gpu-check.json`` and ``gpu-check.txt`` go; made if need be.
    seconds
        That may be used in all.

    Attributes
    ----------
    data
        What becomes JSON.
    failures
        What makes the exit code 1.
    pretended
        Whether there is no real device; said before and behind everything.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data: dict[str, Any] = {}
        self.failures: list[str] = []
        self.pretended = False
        self._lines: list[str] = []
        self._begun = time.monotonic()
        self._seconds = seconds

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._seconds - self.spent

    def title(self, text: str) -> None:
        """Begin a part."""
        self.line()
        mark = " (PRETENDED DEVICE)" if self.pretended else ""
        self.line(f"== {text}{mark} [{self.spent:.0f} s]")

    def line(self, text: str = "") -> None:
        """Print a line and keep it."""
        self._lines.append(text)
        print(text, flush=True)

    def fail(self, text: str) -> None:
        """Print and keep something for which the exit code will be 1."""
        self.failures.append(text)
        self.line(f"FAILED: {text}")

    def write(self) -> None:
        """Write both files."""
        warning = [PRETENDED] if self.pretended else []
        data = {
            "pretended_device": self.pretended,
            "failures": self.failures,
            "seconds": round(self.spent, 1),
            **self.data,
        }
        (self.folder / "gpu-check.json").write_text(json.dumps(data, indent=1, default=float) + "\n")
        text = "\n".join([*warning, *self._lines, *warning])
        (self.folder / "gpu-check.txt").write_text(text + "\n")


def is_pretended() -> bool:
    """Whether tests/emulator stands for the driver in this process."""
    return "emulator.pretended_cuda" in sys.modules
