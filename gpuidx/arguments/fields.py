# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line needs to know of a dataclass field that is an option."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

Effect = Literal["none", "refused", "told"]


class Foreign(NamedTuple):
    """An option of another program, without a field of its own.

    Attributes
    ----------
    flags
        Spellings.
    takes_value
        Whether a value follows.
    effect
        ``"none"``: its spelling is kept in the field that has it, for a notice.  ``"refused"``: it is an
        error.  ``"told"``: the text is printed, and the program ends.
    text
        Why it does nothing or is refused, or what is told.
    """

    flags: tuple[str, ...]
    takes_value: bool
    effect: Effect
    text: str


def option(
    default: Any,
    *flags: str,
    group: str,
    help: str,
    metavar: str | None = None,
    type: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
    hidden: Sequence[str] = (),
    repeat: bool = False,
    switch: bool = False,
    off: bool = False,
    positional: bool = False,
    foreign: Sequence[Foreign] = (),
) -> Any:
    """One option: a dataclass field with what the command line needs to know of it.

    Parameters
    ----------
    default
        Value when the option is not given.
    flags
        Spellings, ``-i`` before ``--input``; from the field's name if there are none.
    group
        Heading in the help.
    help, metavar, type, choices
        As in argparse.
    hidden
        Further spellings that the help does not show.
    repeat
        May be given several times; the value is a tuple.
    switch
        A pair ``--name`` and ``--no-name``; the one that is the default is hidden.
    off
        A bool that is True and has only ``--no-name``.
    positional
        A word without any dashes in front.
    foreign
        The field is no option, but a tuple of the spellings of these that were given.
    """
    metadata = {
        "group": group,
        "help": help,
        "metavar": metavar,
        "type": type,
        "choices": choices,
        "hidden": tuple(hidden),
        "repeat": repeat,
        "switch": switch,
        "off": off,
        "positional": positional,
        "foreign": tuple(foreign),
    }
    if flags:
        metadata["args"] = list(flags)
    return dataclasses.field(default=default, metadata=metadata)


def spellings(field: "dataclasses.Field[Any]") -> list[tuple[str, ...]]:
    """The spellings of a field's options: one tuple, two for a pair of which the first says yes."""
    meta, name = field.metadata, field.name.replace("_", "-")
    if meta["foreign"] or meta["positional"]:
        return []
    if meta["switch"]:
        return [(f"--{name}",), (f"--no-{name}",)]
    if meta["off"]:
        return [(f"--no-{name}",)]
    return [(*meta.get("args", (f"--{name}",)), *meta["hidden"])]
