# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpuidx makes of every option of indexamajig: the rows of the table in docs/options.md."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from gpuidx.arguments import spellings
from gpuidx.options import OWN, Options
from gpuidx.options.foreign import FOREIGN

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "options.md"
BEGIN, END = "<!-- scripts/option-table: begin -->", "<!-- scripts/option-table: end -->"

YES, NO_EFFECT, REFUSED, TOLD = "yes", "no effect", "refused", "told"
OF_PARSER = {"--help": "show the options", "--usage": "show them in short", "--version": "show the version"}


class Row(NamedTuple):
    """An option: its spellings, what it takes (nothing: ""), what gpuidx makes of it, and why."""

    flags: tuple[str, ...]
    argument: str
    state: str
    text: str


def known() -> dict[str, tuple[str, str]]:
    """What gpuidx makes of each spelling that it knows."""
    result = {flag: (YES, text) for flag, text in OF_PARSER.items()}
    for field in dataclasses.fields(Options):
        for flags in spellings(field) if field.name not in OWN else ():
            is_default = field.metadata["switch"] and flags == spellings(field)[not field.default]
            text = "the default" if is_default else field.metadata["help"]
            result |= dict.fromkeys(flags, (YES, text))
    state = {"none": NO_EFFECT, "refused": REFUSED, "told": TOLD}
    for foreign in FOREIGN:
        result |= dict.fromkeys(foreign.flags, (state[foreign.effect], foreign.text))
    return result


def rows() -> list[Row]:
    """Every option of indexamajig, in the order of its help; an unknown one has no state."""
    of = known()
    lines = (ROOT / "tests" / "data" / "options.tsv").read_text().splitlines()
    result = []
    for line in lines:
        if not line.startswith("#"):
            name, others, argument = line.split("\t")
            flags = (name, *filter(None, others.split(",")))
            result.append(Row(flags, argument, *of.get(name, ("", ""))))
    return result


def table() -> str:
    """The rows in Markdown."""
    lines = ["| option of indexamajig | gpuidx | |", "|---|---|---|"]
    for row in rows():
        flags = ", ".join(f"`{flag}`" for flag in row.flags)
        text = "lists what gpuidx has instead" if row.state == TOLD else row.text
        lines.append(
            f"| {flags} | {YES if row.state == TOLD else row.state} | {text} |".replace(" |  |", " | |")
        )
    return "\n".join(lines)


def stated(document: str) -> str:
    """The table in a document."""
    return document.split(BEGIN)[1].split(END)[0].strip()


def with_table(document: str) -> str:
    """The document with the table as it should be."""
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"
