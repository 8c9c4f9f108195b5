# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper of `sources.files`: ``python -m gpuidx.formats.events GEOMETRY`` counts the frames in files.

A line in is the name of a file in JSON.  A line out is ``{"frames": [n, …]}``, one number for each ``%`` of
the data's dimensions, or ``{"error": why}``; the first line says ``"ready"``.
"""

import json
import signal
import sys

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5 import frame_counts
from gpuidx.formats.hdf5_opened import one_line
from gpuidx.geometry import Geometry, read_geometry


def answer(question: str, geometry: Geometry) -> str:
    """The answer to one line."""
    try:
        return json.dumps({"frames": frame_counts(json.loads(question), geometry)})
    except Rejected as rejected:
        return json.dumps({"error": rejected.detail})
    except Exception as error:  # the other files are to be counted all the same
        return json.dumps({"error": f"{json.loads(question)}: {one_line(error)}"})


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
