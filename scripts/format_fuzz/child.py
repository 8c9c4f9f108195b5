# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that decodes damaged messages, and may die of it: ``NAME SEED FIRST END STATE``.

In the file STATE stands the number of the case that is at work, for the parent; findings and counts are lines
of JSON on standard output.
"""

import faulthandler
import json
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from format_fuzz.damage import damaged
from format_fuzz.subjects import SUBJECTS, Subject
from gpuidx.errors import Rejected
from gpuidx.model import PIXEL_TYPES, Frame

LONGEST = 2.0
"""s of processor time that a case may take."""

MEMORY = 8 << 30
"""Bytes of address space; a decoder that asks for more gets a MemoryError."""

WATCHED = {"open", "socket.connect", "subprocess.Popen", "os.system", "os.exec", "import", "exec", "compile"}
"""What no message may cause."""

MOST_FINDINGS = 20


class Watch:
    """Notes what Python does besides decoding, once it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, values: Sequence[object]) -> None:
        if self.on and event in WATCHED:
            self.seen.append(f"{event} {values!r:.120}")


def parts_of(subject: Subject, seed: int, case: int) -> list[bytes]:
    """The damaged message of a case."""
    return damaged(subject.messages[case % len(subject.messages)], seed, case)


def attempt(subject: Subject, seed: int, case: int, count: Counter[str], watch: Watch) -> str | None:
    """What is wrong with how a case ended; None if nothing is."""
    message = subject.message_of(parts_of(subject, seed, case))
    begin = time.process_time()
    try:
        watch.on = True
        frame = subject.decoder.decode(message)
        watch.on = False
        count["decoded"] += 1
        if frame is not None and (odd := _odd(frame)):
            return odd
    except Rejected as rejected:
        count[rejected.reason] += 1
        if not rejected.detail.isprintable() or len(rejected.detail) > 1000:
            return f"an odd reason: {rejected.detail[:200]!r}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error!s:.120}"
    finally:
        watch.on = False
    took = time.process_time() - begin
    if watch.seen:
        return f"did more than decode: {watch.seen.pop()}"
    return f"took {took:.1f} s" if took > LONGEST else None


def _odd(frame: Frame) -> str | None:
    image = frame.image
    if image is None or image.dtype.str[1:] not in PIXEL_TYPES or not np.isfinite(frame.wavelength):
        return f"an odd frame: {image.dtype if image is not None else None}, {frame.wavelength}"
    return None


def say(thing: dict[str, Any]) -> None:
    print(json.dumps(thing), flush=True)


def main() -> None:
    name, (seed, first, end) = sys.argv[1], map(int, sys.argv[2:5])
    faulthandler.enable()
    subject, count, watch = SUBJECTS[name](), Counter[str](), Watch()
    for parts in subject.messages:  # what is imported late, is imported now
        subject.decoder.decode(subject.message_of(parts))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    findings: Counter[str] = Counter()
    at_work = np.memmap(sys.argv[5], np.int64, "r+")
    for case in range(first, end):
        at_work[0] = case
        wrong = attempt(subject, seed, case, count, watch)
        if wrong is not None:
            findings[wrong.split(":")[0]] += 1
            if findings[wrong.split(":")[0]] <= MOST_FINDINGS:
                say({"case": case, "wrong": wrong})
        if case % 10_000 == 9_999:
            say({"count": count})
            count.clear()
    say({"count": count})


if __name__ == "__main__":
    main()
