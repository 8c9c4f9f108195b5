# SPDX-License-Identifier: GPL-3.0-or-later
"""The token of a beamtime: where it is read, and how it stays out of sight.

Who has the token can read the data of a beamtime.  Command line and environment of a process can be seen by
others or end up in a log; so a program that got it there starts itself anew, with the token in a pipe.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gpuidx.errors import OptionError

TOKEN_VARIABLE = "GPUIDX_ASAPO_TOKEN"
HIDDEN = "***"

_OPTION = "--asapo-token"
_SHORTEST = "--asapo-t"
_ENDPOINT = "--asapo-endpoint"
_FILE_OPTION = "--asapo-token-file"
_MOST_BYTES = 1 << 15


class Secret:
    """A text that shows itself nowhere by accident, neither printed nor in a traceback.

    Parameters
    ----------
    text
        To be had back from `reveal`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def read_token(given: Secret | None, file: str | None) -> Secret:
    """The token from the option, the file or the environment; empty if it is nowhere.

    Raises
    ------
    OptionError
        If it is given twice, or the file cannot be read or holds none.
    """
    if given is not None and file is not None:
        raise OptionError(f"{_OPTION} and {_FILE_OPTION} exclude each other; give one")
    if given is not None:
        return given
    if file is None:
        return Secret(os.environ.get(TOKEN_VARIABLE, ""))
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1).decode().strip()
    except (OSError, ValueError) as error:
        raise OptionError(f"{_FILE_OPTION}={file}: cannot be read: {error}") from None
    if not text or len(text.split()) != 1 or len(text) > _MOST_BYTES:
        raise OptionError(f"{_FILE_OPTION}={file}: there is no token in it, or more than one word")
    return Secret(text)


def conceal(argv: Sequence[str], program: Sequence[str]) -> None:
    """Start *program* anew without the token, if it is on the command line *argv* or in the environment.

    Only what names an endpoint reads a token (``gpuidx simulate --asapo`` makes one up).  Where it
    starts one, it does not return.  The new one reads the token from a pipe, a file without a name.
    """
    if not _has(argv, _ENDPOINT, "--asapo-e"):
        return
    rest, token = without_token(argv)
    has_file = _has(argv, _FILE_OPTION, f"{_OPTION}-")
    if token is not None and (has_file or not _fits(token)):
        return  # both are refused later
    from_environment = os.environ.pop(TOKEN_VARIABLE, None)
    if token is None and from_environment is None:
        return
    if token is None and not has_file and _fits(from_environment):
        token = from_environment
    if token is not None:
        reading, writing = os.pipe()
        os.write(writing, token.encode("utf-8", "surrogateescape"))
        os.close(writing)
        os.set_inheritable(reading, True)
        rest.append(f"{_FILE_OPTION}=/dev/fd/{reading}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program[0], [*program, *rest])


def _has(argv: Sequence[str], option: str, shortest: str) -> bool:
    """Whether *option* is on a command line, abbreviated down to *shortest* or not."""
    names = [word.partition("=")[0] for word in argv]
    return any(option.startswith(name) and name.startswith(shortest) for name in names)


def _fits(token: str | None) -> bool:
    return token is not None and 0 < len(token.encode("utf-8", "surrogateescape")) <= _MOST_BYTES


def without_token(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command line without ``--asapo-token``, however it is abbreviated, and its value."""
    rest: list[str] = []
    token: str | None = None
    words = iter(argv)
    for word in words:
        name, sign, value = word.partition("=")
        if name.startswith(_SHORTEST) and _OPTION.startswith(name):
            token = value if sign else next(words, "")
        else:
            rest.append(word)
    return rest, token
