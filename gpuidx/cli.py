# SPDX-License-Identifier: GPL-3.0-or-later
"""argv → options → a run or a command → exit code.  Alone turns errors into text, alone exits."""

import logging
import sys
import traceback
from collections.abc import Callable, Sequence

from gpuidx import __version__
from gpuidx.errors import GpuidxError, OptionError

DESCRIPTION = (
    "Real-time processing of serial crystallography data: frames come in over ZeroMQ or from files, "
    "peaks, crystals and reflections go out as a CrystFEL stream.  "
    "Other commands: gpuidx simulate, gpuidx record, gpuidx replay, gpuidx relay, gpuidx merge, "
    "gpuidx asapo, gpuidx warmup, gpuidx devices, gpuidx geom, gpuidx check, gpuidx bench."
)

VERSION = f"gpuidx {__version__}\nLicence: GPL-3.0-or-later, without any warranty."


def _run(argv: Sequence[str]) -> int:
    from gpuidx.arguments import parse
    from gpuidx.options import OWN, Options, with_rank, with_token
    from gpuidx.secret import without_token
    from gpuidx.sources.asapo.questions import check_service

    options = with_rank(with_token(parse(Options, argv, "gpuidx", DESCRIPTION, version=VERSION, own=OWN)))
    check_service(options)

    from gpuidx.run import run  # takes longer than to see that the words or the service are wrong

    shown, token = without_token(argv)
    return run(options, ["gpuidx", *shown, *(["--asapo-token=***"] if token is not None else [])])


def _simulate(argv: Sequence[str]) -> int:
    from gpuidx.commands.simulate import main as simulate

    return simulate(argv)


def _record(argv: Sequence[str]) -> int:
    from gpuidx.commands.record import main as record

    return record(argv)


def _replay(argv: Sequence[str]) -> int:
    from gpuidx.commands.replay import main as replay

    return replay(argv)


def _merge(argv: Sequence[str]) -> int:
    from gpuidx.commands.merge import main as merge

    return merge(argv)


def _relay(argv: Sequence[str]) -> int:
    from gpuidx.commands.relay import main as relay

    return relay(argv)


def _warmup(argv: Sequence[str]) -> int:
    from gpuidx.commands.warmup import main as warmup

    return warmup(argv)


def _devices(argv: Sequence[str]) -> int:
    from gpuidx.commands.devices import main as devices

    return devices(argv)


def _geom(argv: Sequence[str]) -> int:
    from gpuidx.commands.geom import main as geom

    return geom(argv)


def _check(argv: Sequence[str]) -> int:
    from gpuidx.commands.check import main as check

    return check(argv)


def _bench(argv: Sequence[str]) -> int:
    from gpuidx.commands.bench import main as bench

    return bench(argv)


def _asapo(argv: Sequence[str]) -> int:
    from gpuidx.commands.asapo import main as asapo

    return asapo(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "simulate": _simulate,
    "record": _record,
    "replay": _replay,
    "relay": _relay,
    "merge": _merge,
    "warmup": _warmup,
    "devices": _devices,
    "geom": _geom,
    "check": _check,
    "bench": _bench,
    "asapo": _asapo,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the program; ends the process."""
    if argv is None:
        from gpuidx.secret import conceal

        conceal(sys.argv[1:], [sys.executable, "-m", "gpuidx"])
    sys.exit(call(sys.argv[1:] if argv is None else argv))


def call(argv: Sequence[str]) -> int:
    """Do what a command line says and return the exit code (docs/architecture.md has their list)."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if "--debug" in argv else logging.INFO,
        format="%(message)s",
    )
    command = COMMANDS.get(argv[0]) if argv else None
    try:
        return command(argv[1:]) if command else _run(argv)
    except OptionError as error:
        print(f"gpuidx: {error}\nTry 'gpuidx --help'.", file=sys.stderr)
        return error.exit_code
    except GpuidxError as error:
        if "--debug" in argv:
            traceback.print_exc()
        print(f"gpuidx: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("gpuidx: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"gpuidx: a defect of gpuidx: {text} (--debug shows where)", file=sys.stderr)
        return GpuidxError.exit_code
