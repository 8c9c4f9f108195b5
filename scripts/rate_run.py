# SPDX-License-Identifier: GPL-3.0-or-later
"""gpuidx with a stand-in for the device: it finds at once what a file says, so only what surrounds it costs.

Started by `bench_rate`; the words are those of gpuidx.
"""

import os
import pickle
import sys
import zlib
from pathlib import Path
from typing import Any

from gpuidx.handover import FOUND, write_found

FINDINGS = "GPUIDX_BENCH_FINDINGS"
"""Names the file with a `Found` for each message."""

MARK = slice(16384, 24576)
"""Where a message is looked at to know it again: behind what all HDF5 files begin with."""


def mark(message: memoryview | bytes) -> int:
    """What a message is known by."""
    return zlib.crc32(message[MARK])


def device(port: Any, slots: Any, *_: Any) -> None:
    """Body of the stand-in: every frame is answered as soon as it has come."""
    findings = pickle.loads(Path(os.environ[FINDINGS]).read_bytes())
    while (tasks := port.poll(None)) is not None:
        for _, slot, *_ in tasks:
            write_found(slots[slot], findings[mark(slots[slot])])
        port.answer_all((serial, FOUND) for serial, *_ in tasks)


def main() -> int:
    """Run gpuidx where this module stands for a device process."""
    from gpuidx import device_pool, run
    from gpuidx.cli import call
    from gpuidx.selection import Choice

    device_pool.BODY = "rate_run:device"
    run.decide = lambda options: Choice("cuda", "backend: a stand-in for a device", (0,))
    return call(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
