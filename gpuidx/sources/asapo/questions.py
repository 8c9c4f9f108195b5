# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about an ASAP::O service, each put to a process of its own (`gpuidx.sources.asapo.answer`)."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gpuidx.errors import ServiceError
from gpuidx.secret import Secret
from gpuidx.sources.asapo.place import Where

if TYPE_CHECKING:  # a program that asks one question does without
    from gpuidx.options import SourceOptions

SIZE, STREAMS, STATUS, RESET = "size", "streams", "status", "reset"
"""Kinds of questions: of a stream, of a source, where a group is, and to set it there."""

ABSENT, DENIED, TROUBLE = "absent", "denied", "trouble"
"""Errors: no client library, a refusal, no sensible answer."""

READY = "ready"

START = 60.0
"""s in which the process must have loaded itself; a busy machine is not the service's fault."""

PATIENCE = 1.5
"""s for the answer; with what the programs need to start, a wrong endpoint shall take no longer than 3."""

HOW_TO_INSTALL = (
    "the ASAP::O client library is not installed; pip install 'gpuidx[asapo]' does it "
    "(Linux x86-64, Python 3.11 or 3.12)"
)


def check_service(options: SourceOptions) -> None:
    """See whether the service that the options name, if any, is there and lets us read.

    Raises
    ------
    ServiceError
        If not.
    """
    if options.asapo_endpoint is not None:
        token = options.asapo_token or Secret("")
        ask(Where.of(options), token, SIZE, options.asapo_stream or "")


def ask(
    where: Where, token: Secret, what: str, stream: str = "", value: int = 0, patience: float = PATIENCE
) -> dict[str, Any]:
    """The service's answer.

    Parameters
    ----------
    where, token
        Of the source.
    what, stream, value
        The question: a kind, for which stream, and for `RESET` the last id that counts as read.
    patience
        s until the answer must be there.

    Raises
    ------
    ServiceError
        If there is no answer, or a refusal; its text is one line.
    """
    question = {
        "where": asdict(where), "token": token.reveal(), "what": what, "stream": stream, "value": value,
    }  # fmt: skip
    at = f"ASAP::O at {where.endpoint}"
    with subprocess.Popen(
        [sys.executable, "-m", "gpuidx.sources.asapo.answer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode())
        process.stdin.close()
        answered = _line(process, START)
        if answered:
            answered = _line(process, patience)
        if answered is None:
            process.kill()
            raise ServiceError(f"{at} does not answer within {patience:g} s; is the endpoint right?")
        process.kill()
        assert process.stderr is not None
        trace = process.stderr.read().decode(errors="replace").strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(answered)
    except ValueError:
        raise ServiceError(
            f"{at}: the client library failed: {trace[-1] if trace else 'no answer'}"
        ) from None
    error = answer.get("error")
    if error == ABSENT:
        raise ServiceError(f"--asapo-endpoint: {HOW_TO_INSTALL}")
    if error == DENIED:
        raise ServiceError(
            f"{at} refuses us: {answer['text']} (are token, beamtime {where.beamtime!r} and source "
            f"{where.source!r} right?)"
        )
    if error:
        raise ServiceError(f"{at} cannot be used: {answer['text']}")
    return answer


def _line(process: subprocess.Popen[bytes], patience: float) -> bytes | None:
    """The next line that the process writes; empty at its end, None if nothing came in time."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], patience)[0]:
        return None
    return process.stdout.readline()
