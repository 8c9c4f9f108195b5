# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of options in docs/options.md; see ``scripts/option-table``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import option_table

if __name__ == "__main__":
    text = option_table.DOCUMENT.read_text()
    option_table.DOCUMENT.write_text(option_table.with_table(text))
