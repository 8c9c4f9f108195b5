# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper of `sources.files`: ``python -m gpuidx.formats.events GEOMETRY`` says which frames files hold.

A line in is ``[name, event, waited]`` in JSON: the name of a file, the event that the list gives with it or
null, and whether a file may be awaited.  A line out is one of ``{"frames": [[PATHS, [n, …]], …]}``, see
`gpuidx.formats.hdf5_listing.frames_in`; ``{"error": why}``; and, for a file that may be awaited and is not
there, ``{"absent": true}``.  The first line says ``"ready"``.
"""

import json
import os
import signal
import sys
from typing import Any

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_listing import check_complete, frames_in
from gpuidx.formats.hdf5_opened import one_line
from gpuidx.geometry import Geometry, read_geometry


def answer(question: str, geometry: Geometry) -> str:
    """The answer to one line."""
    name, event, waited = json.loads(question)
    try:
        return json.dumps(_found(name, event, waited, geometry))
    except Rejected as rejected:
        return json.dumps({"error": rejected.detail})
    except Exception as error:  # the other files are to be looked at all the same
        return json.dumps({"error": f"{name}: {one_line(error)}"})


def _found(name: str, event: str | None, waited: bool, geometry: Geometry) -> dict[str, Any]:
    if waited and not os.path.exists(name):  # noqa: PTH110  (never raises)
        return {"absent": True}
    frames = frames_in(name, geometry) if event is None else []
    if waited:
        check_complete(name, event or frames[0][0] + "//", geometry)
    return {"frames": frames}


def main(geometry_file: str) -> None:
    """Answer until the end of standard input; the main process stops this one, not a signal to its group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    geometry = read_geometry(geometry_file)
    print(json.dumps("ready"), flush=True)
    for question in sys.stdin:
        print(answer(question, geometry), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
