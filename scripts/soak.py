# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames at a steady rate for a long time; what every process holds must not grow.

At the end the frames that were sent, the accounts and the stream are compared.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuidx.measure.processes import Footprint, descendants, footprint

ENDED = ("blank", "hits, not indexed", "indexed", "rejected", "lost with a worker", "dropped", "duplicate")
"""States of the final table."""

REQUESTS = 4
"""In flight at the end, whose answers may be lost."""

WARM_UP = 0.2
"""Share of the time before memory is looked at."""

GROWTH, SLACK = 1.03, 4096
"""Anonymous memory may grow so many times and kB more, from the first third of the samples to the last.

The least of each third counts: on top of it are messages on their way, a few more or less at any time.
"""

CALIBRATION = 10.0
"""Seconds at full speed, where the rate is not given."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the server sent, what the run said, and what is in the stream.

    Attributes
    ----------
    sent
        Frames.
    table
        The final table: frames by name.
    numbers
        How often each frame's number is in the stream.
    code
        Exit code of the run.
    """

    sent: int
    table: Mapping[str, int]
    numbers: Mapping[int, int]
    code: int


def growing(samples: Mapping[int, Sequence[Footprint]]) -> list[str]:
    """What grew in which process, from its first third of samples to its last."""
    wrong = []
    for pid, each in samples.items():
        third = max(1, len(each) // 3)
        first, last = each[:third], each[-third:]
        memory, later = (min(one.memory for one in some) for some in (first, last))
        if later > GROWTH * memory + SLACK:
            wrong.append(f"memory of process {pid} grew from {memory} to {later} kB")
        for name in ("files", "threads"):
            most, now = (max(getattr(one, name) for one in some) for some in (first, last))
            if now > most:
                wrong.append(f"{name} of process {pid} grew from {most} to {now}")
    return wrong


def unaccounted(account: Account) -> list[str]:
    """What does not add up."""
    received = account.table.get("received", 0)
    ended = {name: account.table.get(name, 0) for name in ENDED}
    written = sum(ended[name] for name in ENDED[:3])
    checks = {
        f"exit code {account.code}": account.code == 0,
        "nothing received": received > 0,
        f"{account.sent} sent, {received} received": 0 <= account.sent - received <= REQUESTS,
        f"{received} received, but {ended}": received == sum(ended.values()),
        f"{received - written} frames of a good source not processed": received == written,
        f"{written} processed, {len(account.numbers)} in the stream": written == len(account.numbers),
        "a frame twice in the stream": max(account.numbers.values(), default=1) == 1,
        "no hits": ended["indexed"] > 0,
    }
    return [text for text, holds in checks.items() if not holds]


class Soak:
    """A server and a run that reads from it.

    Parameters
    ----------
    folder
        For all files.
    options
        Of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self._options = folder, options
        self.stream, self._log = folder / "soak.stream", folder / "log"
        self._endpoint = f"ipc://{folder}/soak.sock"

    def start(self, rate: float) -> None:
        """Start both; 0: as fast as it goes."""
        o, program = self._options, [sys.executable, "-m", "gpuidx"]
        self.stream.unlink(missing_ok=True)
        files = self.folder / "soak.geom", self.folder / "soak.cell"
        self._server = subprocess.Popen(
            [
                *program, "simulate", "--serve=rep", f"--bind={self._endpoint}", "--frames=0",
                f"--rate={rate}", "--distinct=40", f"--size={o.size}", f"--hit-fraction={o.hits}",
                f"--write-geometry={files[0]}", f"--write-cell={files[1]}",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._server.stdout is not None
        if not self._server.stdout.readline().startswith("serving"):
            raise SystemExit("gpuidx simulate does not serve")
        with self._log.open("w") as log:
            self.run = subprocess.Popen(
                [
                    *program, f"--zmq-input={self._endpoint}", "--zmq-request=next", "-g", str(files[0]),
                    "-p", str(files[1]), "-o", str(self.stream), "-j", str(o.jobs), "--peaks=peakfinder8",
                    "--threshold=10", "--min-snr=5", "--min-peaks=10", "--copy-header=frame_number",
                    f"--zmq-requests={REQUESTS}",
                ],
                stderr=log,
            )  # fmt: skip
        while self.run.poll() is None and not self._has_frames():
            time.sleep(0.02)

    def _has_frames(self) -> bool:
        return self.stream.exists() and b"End chunk" in self.stream.read_bytes()

    def sample(self, seconds: float, every: float) -> dict[int, list[Footprint]]:
        """What each process of the run held, after the warm-up; those that ended have fewer samples."""
        samples: dict[int, list[Footprint]] = {}
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds and self.run.poll() is None:
            held = {pid: one for pid in descendants(self.run.pid) if (one := footprint(pid)) is not None}
            print(f"{passed / 60:7.2f} min  {_in_words(held)}", flush=True)
            if passed > WARM_UP * seconds:
                for pid, one in held.items():
                    samples.setdefault(pid, []).append(one)
            time.sleep(every)
        return samples

    def end(self) -> Account:
        """Stop both, and read what they wrote."""
        self.run.send_signal(signal.SIGTERM)
        code = self.run.wait(60)
        self._server.send_signal(signal.SIGTERM)
        said = self._server.communicate(timeout=30)[0]
        sent = int(re.findall(r"^(\d+) frames sent", said, re.MULTILINE)[-1])
        log = self._log.read_text()
        lines = {name: int(n) for n, name in re.findall(r"^ *(\d+) +(\S.*)$", log, re.MULTILINE)}
        table = {name: n for name, n in lines.items() if name in ("received", *ENDED)}
        numbers: Counter[int] = Counter()
        with self.stream.open("rb") as lines:
            for line in lines:
                if line.startswith(b"header/int/frame_number"):
                    numbers[int(line.rsplit(b"=", 1)[1])] += 1
        return Account(sent=sent, table=table, numbers=numbers, code=code)

    @property
    def log(self) -> str:
        """What the run wrote to the terminal."""
        return self._log.read_text()


def _in_words(held: Mapping[int, Footprint]) -> str:
    return " | ".join(
        f"{pid}: {one.memory / 1024:.1f} MB, {one.files} files, {one.threads} threads"
        for pid, one in held.items()
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=0.5, help="share of the rate that is reached")
    parser.add_argument("--rate", type=float, default=0.0, help="frames per second; 0: by --load")
    parser.add_argument("--size", type=int, default=1024, help="pixels along a side")
    parser.add_argument("--hits", type=float, default=0.2, help="share of frames with a crystal")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args(words)


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), options)
        rate = options.rate
        if not rate:
            soak.start(0.0)
            time.sleep(CALIBRATION)
            rate = options.load * len(soak.end().numbers) / CALIBRATION
        print(f"{rate:.1f} frames/s for {options.minutes:g} minutes, load average {os.getloadavg()[0]:.2f}")
        soak.start(rate)
        seconds = 60 * options.minutes
        samples = soak.sample(seconds, max(0.5, seconds / 360))
        account = soak.end()
        wrong = growing(samples) + unaccounted(account)
        print(f"{account.sent} frames sent; " + ", ".join(f"{n} {name}" for name, n in account.table.items()))
        if wrong:
            print(soak.log[-3000:])
    print("FAILED: " + "; ".join(wrong) if wrong else "nothing grew, all accounts add up")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
