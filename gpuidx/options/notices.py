# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said, once at the start, of options that were given and have no effect."""

from gpuidx.options.every import EveryOption
from gpuidx.options.foreign import FOREIGN

_REASON = {flag: foreign.text for foreign in FOREIGN if foreign.effect == "none" for flag in foreign.flags}

_OF_LISTS = {"prefix": "--prefix", "basename": "--basename", "wait_for_file": "--wait-for-file"}


def notices(o: EveryOption) -> list[str]:
    """A line for each reason, with all options that it holds for."""
    given: dict[str, list[str]] = {}
    for name in dict.fromkeys(o.without_effect):
        given.setdefault(_REASON[name], []).append(name)
    if o.input is None:
        useless = [word for name, word in _OF_LISTS.items() if getattr(o, name)]
        given |= {"only lists of files (-i) have names and wait": useless} if useless else {}
    return [f"{_without_effect(names)}: {reason}" for reason, names in given.items()]


def _without_effect(names: list[str]) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect"
