# SPDX-License-Identifier: GPL-3.0-or-later
"""CrystFEL's own programs on a stream, where they are installed."""

import re
import shutil
import subprocess
from pathlib import Path

from asapo_check.setting import last_line, report


def read_by_crystfel(stream: Path, n_frame: int) -> bool:
    """CrystFEL's reader of streams, in the program that counts frames and in the one that merges crystals."""
    counting, merging = (shutil.which(name) for name in ("whirligig", "process_hkl"))
    if counting is None or merging is None:
        print("CrystFEL's reader: skipped, whirligig and process_hkl are not on PATH")
        return True
    said = subprocess.run([counting, str(stream)], capture_output=True, text=True)
    found = re.search(r"Number of frames processed: (\d+)", said.stdout + said.stderr)
    wrong = (
        [] if found and int(found[1]) == n_frame else ["whirligig: " + last_line(said.stdout + said.stderr)]
    )
    words = ["-i", str(stream), "-o", f"{stream}.hkl", "-y", "4/mmm"]
    merged = subprocess.run([merging, *words], capture_output=True, text=True)
    wrong += [f"process_hkl: {merged.stderr}"] if merged.returncode else []
    return report("CrystFEL", wrong, f"whirligig read {found[1] if found else 0} frames, process_hkl all ")
