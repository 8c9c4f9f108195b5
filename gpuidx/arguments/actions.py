# SPDX-License-Identifier: GPL-3.0-or-later
"""What argparse is to do at an option, beyond what it knows itself."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from gpuidx.arguments.fields import Foreign
from gpuidx.errors import OptionError


class Append(argparse.Action):
    """Of an option that may be repeated."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: Any = None
    ) -> None:
        """Keep the value behind the others."""
        append(namespace, self.dest, values)


class Understand(argparse.Action):
    """Of a `Foreign`."""

    def __init__(self, *args: Any, foreign: Foreign, **kwargs: Any) -> None:
        nargs = None if foreign.takes_value else 0
        super().__init__(*args, **kwargs | {"nargs": nargs, "help": argparse.SUPPRESS})
        self.foreign = foreign

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, _: Any, flag: Any = None
    ) -> None:
        """Do what its effect says."""
        if self.foreign.effect == "refused":
            raise OptionError(f"{flag} {self.foreign.text}")
        if self.foreign.effect == "told":
            tell(parser, self.foreign.text)
        append(namespace, self.dest, flag)


class Tell(argparse.Action):
    """Of an option that makes the program print something and end."""

    def __init__(self, *args: Any, text: Callable[[argparse.ArgumentParser], str], **kwargs: Any) -> None:
        kwargs |= {"nargs": 0, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        super().__init__(*args, **kwargs)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print, and end."""
        tell(parser, self.text(parser))


def append(namespace: argparse.Namespace, name: str, value: Any) -> None:
    """Put a value behind those that are there; the first replaces argparse-dataclass' mark for none."""
    before = getattr(namespace, name, ())
    setattr(namespace, name, (*(before if isinstance(before, tuple) else ()), value))


def tell(parser: argparse.ArgumentParser, text: str) -> NoReturn:
    """Print on standard output, and end the program."""
    print(text.rstrip("\n"))
    parser.exit()
