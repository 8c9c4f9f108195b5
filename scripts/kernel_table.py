# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of registers and memory of the kernels; see ``scripts/kernel-table``."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "kernels.md"
sys.path.insert(0, str(ROOT / "tests"))

from backends import kernel_resources  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Registers and memory of the kernels")
    parser.add_argument("--write", action="store_true", help="put the table into docs/kernels.md")
    parser.add_argument("--all", action="store_true", help="compile more variants for every architecture")
    wanted = parser.parse_args()
    rows = kernel_resources.compile_all("all" if wanted.all else "usual")
    faults = [fault for row in rows for fault in row.faults()]
    table = kernel_resources.table(rows)
    print(table)
    print(f"{len(rows)} kernels compiled; at most {max(row.registers for row in rows)} registers")
    print("\n".join(faults) or "none is over a limit")
    if wanted.write and not any(row.log for row in rows):
        DOCUMENT.write_text(kernel_resources.with_table(DOCUMENT.read_text(), table))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
