# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataclass of options to a parser, and argparse's parser taught some habits of GNU programs.

Spellings may be abbreviated as long as indexamajig would understand them: options that it does not have give
way.  Negative numbers are values, however they are written.
"""

# No `from __future__ import annotations` in modules with options: argparse-dataclass reads field types.
import argparse
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import argparse_dataclass

from gpuidx.arguments.actions import Append, Tell, Understand
from gpuidx.arguments.fields import spellings
from gpuidx.errors import OptionError

T = TypeVar("T")


class Parser(argparse_dataclass.ArgumentParser):  # type: ignore[misc]
    """argparse-dataclass' parser with the additions of this package.

    Parameters
    ----------
    options_class
        A dataclass with fields by `option`.
    prog, description
        For the help.
    version
        What ``--version`` prints; None: there is none.
    own
        Fields whose options a word abbreviates only if no other option begins so.
    """

    def __init__(
        self,
        options_class: type[Any],
        *,
        prog: str,
        description: str,
        version: str | None = None,
        own: Collection[str] = (),
    ) -> None:
        self._fields = {f.name: f for f in dataclasses.fields(options_class)}
        self._group_of: dict[str, Any] = {}
        self._own = own
        super().__init__(options_class, prog=prog, description=description, formatter_class=_formatter)
        self.add_argument("-?", action="help", help=argparse.SUPPRESS)
        self.add_argument("--usage", action=Tell, text=Parser.format_usage, help=argparse.SUPPRESS)
        if version is not None:
            flags = ("-V", "-v", "--version")
            self.add_argument(*flags, action=Tell, text=lambda _: version, help="show the version")

    def add_argument(self, *flags: Any, **kwargs: Any) -> Any:
        """Add an option as its field says."""
        name = kwargs.get("dest") or flags[0].lstrip("-").replace("-", "_")
        field = self._fields.get(name)
        if field is None:  # -h
            return super().add_argument(*flags, **kwargs)
        meta = field.metadata
        if meta["foreign"]:
            return self._add_foreign(field)
        if meta["group"] not in self._group_of:
            self._group_of[meta["group"]] = self.add_argument_group(meta["group"])
        group = self._group_of[meta["group"]]
        kwargs = {"dest": name, "default": argparse_dataclass.MISSING, "help": _help(field)}
        if meta["positional"]:
            del kwargs["dest"]
            return group.add_argument(name, **kwargs, nargs="?", metavar=meta["metavar"])
        if meta["switch"] or meta["off"]:
            for (flag,), const in zip(spellings(field)[::-1], (False, True), strict=False):
                is_default = meta["switch"] and const is field.default
                shown = argparse.SUPPRESS if is_default else kwargs["help"]
                extra = {"action": "store_const", "const": const}
                group.add_argument(flag, **{**kwargs, "help": shown}, **extra)
            return None
        if field.type is bool:
            extra = {"action": "store_const", "const": True}
        else:
            extra = {
                "type": meta["type"] or (str if meta["repeat"] else _plain_type(field.type)),
                "metavar": meta["metavar"],
                "choices": meta["choices"],
            }
            if meta["repeat"]:
                extra["action"] = Append
        argument = group.add_argument(*flags, **kwargs, **extra)
        for alias in meta["hidden"]:
            group.add_argument(alias, **{**kwargs, "help": argparse.SUPPRESS}, **extra)
        return argument

    def _add_foreign(self, field: "dataclasses.Field[Any]") -> None:
        for foreign in field.metadata["foreign"]:
            kwargs = {"dest": field.name, "default": argparse_dataclass.MISSING, "action": Understand}
            super().add_argument(*foreign.flags, **kwargs, foreign=foreign)

    def _get_option_tuples(self, option_string: str) -> Any:
        """Options that a word may abbreviate; of several those of the other program, and one of a kind."""
        found = super()._get_option_tuples(option_string)
        found = [match for match in found if match[0].dest not in self._own] or found
        return found[:1] if len({_kind(action) for action, *_ in found}) == 1 else found

    def parse_args(self, argv: Sequence[str]) -> Any:
        """The options of a command line."""
        return super().parse_args(list(self._words(argv)))

    def _words(self, argv: Sequence[str]) -> Iterator[str]:
        """The command line with negative numbers hung on their options: argparse takes some for options."""
        given = iter(argv)
        for word in given:
            value = next(given, None) if self._takes_value(word) else None
            if value is not None and value.startswith("-") and _is_number(value):
                yield f"{word}={value}" if word.startswith("--") else f"{word}{value}"
            else:
                yield from (word,) if value is None else (word, value)

    def _takes_value(self, word: str) -> bool:
        if not word.startswith("-") or "=" in word or (len(word) != 2) != word.startswith("--"):
            return False
        found = [self._option_string_actions.get(word)]
        if found == [None]:
            found = [action for action, *_ in self._get_option_tuples(word)]
        return len(found) == 1 and found[0].nargs is None

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        raise OptionError(message)


def _kind(action: argparse.Action) -> Any:
    """The same for spellings of the same option."""
    return action if isinstance(action, Understand) else (action.dest, action.const)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _plain_type(annotation: Any) -> Any:
    """The type of ``Optional[T]`` or ``T``."""
    inner = [t for t in getattr(annotation, "__args__", ()) if t is not type(None)]
    return inner[0] if inner else annotation


def _help(field: "dataclasses.Field[Any]") -> str:
    text: str = field.metadata["help"]
    default = field.default
    if isinstance(default, bool) or default in (None, (), ""):
        return text.replace("%", "%%")
    shown = ",".join(f"{x:g}" for x in default) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})".replace("%", "%%")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=34, width=110)


def parse(options_class: type[T], argv: Sequence[str], prog: str, description: str, **more: Any) -> T:
    """Make an *options_class* from the words of a command line.

    Parameters
    ----------
    options_class
        A dataclass with fields by `option`.
    argv
        The words.
    prog, description
        For the help.
    more
        Of `Parser`.

    Raises
    ------
    OptionError
        If a word is not understood or a value does not fit; nothing has been opened yet.
    SystemExit
        After the help and the like.
    """
    parsed: T = Parser(options_class, prog=prog, description=description, **more).parse_args(argv)
    return parsed
