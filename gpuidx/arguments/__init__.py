# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses of options turned into a command line: argparse-dataclass, and what it lacks.

Added here: groups in the help, options that may be repeated, pairs ``--name`` / ``--no-name`` of which the
last one wins, hidden spellings, options of another program that are understood but do nothing, defaults in
the help, errors as `OptionError`, and the habits of GNU programs that argparse lacks.
"""

from gpuidx.arguments.fields import Effect, Foreign, option, spellings
from gpuidx.arguments.parser import Parser, parse

__all__ = ["Effect", "Foreign", "Parser", "option", "parse", "spellings"]
