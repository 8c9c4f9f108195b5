# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that answers one question about an ASAP::O service: JSON in, JSON out, see `questions`.

It is a process of its own because the client library may hang, and takes longer than main wants to wait.
"""

import json
import sys
from contextlib import suppress
from typing import Any

from gpuidx.secret import Secret
from gpuidx.sources.asapo.place import Where
from gpuidx.sources.asapo.questions import ABSENT, DENIED, READY, RESET, SIZE, STATUS, STREAMS, TROUBLE


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Ask the service; gives the answer, or ``error`` and ``text``."""
    try:
        from gpuidx.sources.asapo.client import Client, DeniedError, TroubleError
    except ImportError as error:
        return {"error": ABSENT, "text": str(error)}
    stream = question["stream"]
    try:
        client = Client(Where(**question["where"]), Secret(question["token"]))
        if question["what"] == SIZE:
            return {"size": client.size(stream)}
        if question["what"] == STREAMS:
            return {"streams": client.streams()}
        if question["what"] == STATUS:
            return client.status(stream)
        if question["what"] == RESET:
            client.reset(stream, question["value"])
            return {}
        raise ValueError(question["what"])
    except DeniedError as error:
        return {"error": DENIED, "text": str(error)}
    except TroubleError as error:
        return {"error": TROUBLE, "text": str(error)}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with suppress(ImportError):  # of which `answer` tells
        import gpuidx.sources.asapo.client  # noqa: F401  (before the time for the answer begins)
    print(READY, flush=True)
    print(json.dumps(answer(asked)), flush=True)
