# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses of options turned into a command line: argparse-dataclass, and what it lacks.

Added here: groups in the help, options that may be repeated, pairs ``--name`` / ``--no-name`` of which the
last one wins, hidden spellings, defaults in the help, and errors as `OptionError`.
"""

# No `from __future__ import annotations` in modules with options: argparse-dataclass reads field types.
import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import argparse_dataclass

from gpuidx.errors import OptionError

T = TypeVar("T")


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
    }
    if flags:
        metadata["args"] = list(flags)
    return dataclasses.field(default=default, metadata=metadata)


class _Append(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: Any = None
    ) -> None:
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, (*(before if isinstance(before, tuple) else ()), values))


class _Parser(argparse_dataclass.ArgumentParser):  # type: ignore[misc]
    """argparse-dataclass' parser with the additions of this module, all in `add_argument`."""

    def __init__(self, options_class: type[Any], **kwargs: Any) -> None:
        self._fields = {f.name: f for f in dataclasses.fields(options_class)}
        self._group_of: dict[str, Any] = {}
        super().__init__(options_class, **kwargs)

    def add_argument(self, *flags: Any, **kwargs: Any) -> Any:
        name = kwargs.get("dest") or flags[0].lstrip("-").replace("-", "_")
        field = self._fields.get(name)
        if field is None:  # -h
            return super().add_argument(*flags, **kwargs)
        meta = field.metadata
        if meta["group"] not in self._group_of:
            self._group_of[meta["group"]] = self.add_argument_group(meta["group"])
        group = self._group_of[meta["group"]]
        kwargs = {"dest": name, "default": argparse_dataclass.MISSING, "help": _help(field)}
        if meta["positional"]:
            del kwargs["dest"]
            return group.add_argument(name, **kwargs, nargs="?", metavar=meta["metavar"])
        on_flag, off_flag = f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"
        if meta["switch"]:
            on_help, off_help = kwargs["help"], argparse.SUPPRESS
            if field.default:
                on_help, off_help = off_help, on_help
            group.add_argument(on_flag, **{**kwargs, "help": on_help}, action="store_const", const=True)
            return group.add_argument(
                off_flag, **{**kwargs, "help": off_help}, action="store_const", const=False
            )
        if meta["off"]:
            return group.add_argument(off_flag, **kwargs, action="store_const", const=False)
        if field.type is bool:
            extra: dict[str, Any] = {"action": "store_const", "const": True}
        else:
            extra = {
                "type": meta["type"] or (str if meta["repeat"] else _plain_type(field.type)),
                "metavar": meta["metavar"],
                "choices": meta["choices"],
            }
            if meta["repeat"]:
                extra["action"] = _Append
        argument = group.add_argument(*flags, **kwargs, **extra)
        for alias in meta["hidden"]:
            group.add_argument(alias, **{**kwargs, "help": argparse.SUPPRESS}, **extra)
        return argument

    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


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


def parse(options_class: type[T], argv: Sequence[str], prog: str, description: str) -> T:
    """Make an *options_class* from the words of a command line.

    Raises
    ------
    OptionError
        If a word is not understood or a value does not fit; nothing has been opened yet.
    """
    parser = _Parser(
        options_class,
        prog=prog,
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )
    parsed: T = parser.parse_args(list(argv))
    return parsed
