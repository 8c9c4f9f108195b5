# SPDX-License-Identifier: GPL-3.0-or-later
"""gpuidx with a stand-in for the device: it finds at once what a file says, so only what surrounds it costs.

With `ALONE` in the environment there are stand-ins for workers and receivers as well, which do nothing but
answer: then the main process is the limit, and takes turns as large as it does at its highest rate.

Started by `bench_rate`; the words are those of gpuidx.
"""

import os
import pickle
import sys
import zlib
from pathlib import Path
from typing import Any

from gpuidx.flow.accounts import BLANK
from gpuidx.handover import DECODE, DECODED, FOUND, Descriptor, write_found
from gpuidx.sources.contract import FRAME

FINDINGS = "GPUIDX_BENCH_FINDINGS"
"""Names the file with a `Found` for each message."""

ALONE = "GPUIDX_BENCH_ALONE"
"""If set, bytes of a message that stand-ins for receivers say they have received."""

CHUNK = b"a line of the chunk of a blank, which has some 20 such lines\n" * 15 + b"----- End chunk -----\n"

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


def device_alone(port: Any, *_: Any) -> None:
    """Body of a stand-in that finds nothing."""
    while (tasks := port.poll(None)) is not None:
        port.answer_all((serial, FOUND) for serial, *_ in tasks)


def worker_alone(port: Any, slots: Any, *_: Any) -> None:
    """Body of a stand-in for a worker: all frames are blanks."""
    descriptor = Descriptor(0, "u2", 1.0, 0.1, 0.0, 0.0, 1_000_000, 4096, 1_500_000)
    for serial, slot, *_, step in port.tasks():
        if step == DECODE:
            port.answer(serial, DECODED, *descriptor)
        else:
            slots[slot][: len(CHUNK)] = CHUNK
            port.answer(serial, BLANK, "", "", len(CHUNK), 0, 0, 0, [], [], 0)


def receiver_alone(port: Any, _: Any, stop: Any, *__: Any) -> None:
    """Body of a stand-in for a receiver: one message a packet, as a real one has them at its own pace."""
    n_byte = int(os.environ[ALONE])
    while (tasks := port.poll(None)) is not None:
        for (slot,) in tasks:
            port.answer_all([(slot,) if stop.row(0)[0] else (slot, (n_byte,), None, FRAME, 0)])


def main() -> int:
    """Run gpuidx where this module stands for a device process."""
    from gpuidx import device_pool, run
    from gpuidx.cli import call
    from gpuidx.selection import Choice
    from gpuidx.sources import receivers

    device_pool.BODY = "rate_run:device"
    if ALONE in os.environ:
        device_pool.BODY, run.WORKER_WITH_DEVICE = "rate_run:device_alone", "rate_run:worker_alone"
        receivers.BODY = "rate_run:receiver_alone"
    run.decide = lambda options: Choice("cuda", "backend: a stand-in for a device", (0,))
    return call(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
