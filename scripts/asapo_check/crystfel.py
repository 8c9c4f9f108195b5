# SPDX-License-Identifier: GPL-3.0-or-later
"""CrystFEL's own programs on a stream, where they are installed."""

import re
import shutil
import subprocess
from pathlib import Path

from asapo_check.setting import last_line, report

PROGRAMS = ("whirligig", "process_hkl", "ambigator")


def read_by_crystfel(stream: Path, n_frame: int, n_crystal: int = 0) -> bool:
    """CrystFEL's reader of streams, in programs that count frames, merge crystals, and write them anew."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        print(f"CrystFEL's reader: skipped, not on PATH: {', '.join(missing)}")
        return True
    merged, anew = Path(f"{stream}.hkl"), Path(f"{stream}.anew")
    said = _run("whirligig", str(stream))
    found = re.search(r"Number of frames processed: (\d+)", said)
    wrong = [] if found and int(found[1]) == n_frame else ["whirligig: " + last_line(said)]
    said = _run("process_hkl", "-i", str(stream), "-o", str(merged), "-y", "4/mmm")
    n_reflection = _count(r"^ *-?\d+ +-?\d+ +-?\d+ ", merged)
    if "Failed" in said or bool(n_reflection) != bool(n_crystal):
        wrong.append(f"process_hkl: {n_reflection} reflections; {last_line(said)}")
    if n_crystal:
        said = _run("ambigator", "-y4/m", "-w4/mmm", "--iterations=1", "-o", str(anew), str(stream))
        n_anew = _count("^--- Begin crystal", anew)
        wrong += [f"ambigator: {n_anew} crystals; {last_line(said)}"] if n_anew != n_crystal else []
    row = f"{n_frame} frames, {n_crystal} crystals, {n_reflection} merged reflections "
    return report("CrystFEL's readers", wrong, row)


def _run(*words: str) -> str:
    """What a program said, and how it ended."""
    done = subprocess.run(words, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}\nexit code {done.returncode}"


def _count(pattern: str, file: Path) -> int:
    """Lines that begin so; 0 without the file."""
    return len(re.findall(f"(?m){pattern}", file.read_text())) if file.exists() else 0
