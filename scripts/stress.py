# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages with known numbers, 5 % of them malformed, from a server that dies; workers are killed meanwhile.

At the end the accounts, the stream and the truth are compared.  A second run publishes to one SUB socket.
"""

import argparse
import math
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from gpuidx.measure.processes import anonymous_memory, workers

SIDE = 64
IN_FLIGHT = 4
MEMORY_MARK = 5000
GEOMETRY = """photon_energy = energy eV
clen = clen mm
adu_per_photon = 1
res = 13333
data = image
peak_list = peaks
""" + "".join(
    f"""p{n}/min_fs = 0
p{n}/max_fs = {SIDE - 1}
p{n}/min_ss = {n * SIDE // 2}
p{n}/max_ss = {(n + 1) * SIDE // 2 - 1}
p{n}/corner_x = {-SIDE // 2}
p{n}/corner_y = {(n - 1) * SIDE // 2}
p{n}/fs = x
p{n}/ss = y
"""
    for n in (0, 1)
)
PIXELS = np.random.default_rng(5).poisson(2, (SIDE, SIDE)).astype("<i4")
PIXELS[20:22, 30:32] = 400


def image_map(**changes: Any) -> dict[str, Any]:
    return {"type": "<i4", "shape": [SIDE, SIDE], "data": PIXELS.tobytes()} | changes


def good(number: int, **changes: Any) -> dict[str, Any]:
    message = {"energy": 9500.0, "clen": 80.0, "frame_number": number, "image": image_map()}
    return {key: value for key, value in (message | changes).items() if value is not None}


HALF = len(PIXELS.tobytes()) // 2
MALFORMED_MAPS: list[dict[str, Any]] = [
    *({"image": value} for value in (None, 3, b"abc", [1, 2], "text")),
    *({"image": {k: v for k, v in image_map().items() if k != key}} for key in ("type", "shape", "data")),
    *({"image": image_map(type=value)} for value in (4, "i4", "int32", "", "|O", "<c16")),
    *(
        {"image": image_map(shape=value)}
        for value in (
            [SIDE * SIDE],
            [2, SIDE, SIDE // 2],
            "64",
            [SIDE, SIDE // 2],
            [0, 0],
            [-64, 64],
            [2**33, 64],
        )
    ),
    *({"image": image_map(shape=value)} for value in ([64.5, 64], ["64", "64"], [128, 128], [64, 2**20])),
    *(
        {"image": image_map(data=value)}
        for value in ("text", [1, 2, 3], PIXELS.tobytes()[:HALF], b"x" * 16, b"")
    ),
    *(
        {"energy": value}
        for value in (None, "abc", "9500 eV", "", True, [1], b"9500", math.nan, 0.0, -9500.0, math.inf)
    ),
    *({"clen": value} for value in (None, "abc", math.nan, math.inf, False)),
]


def malformed(number: int, seed: int) -> bytes:
    """One of all the ways in which a message can be wrong."""
    rng = random.Random(f"{seed}:{number}:way")
    whole = msgpack.packb(good(number))
    others = [
        whole[: len(whole) // 2], whole[:-1], whole[:20], bytes(rng.randrange(256) for _ in range(300)), b"",
        b"What?", b"0123456789", msgpack.packb(None), msgpack.packb("text " * 9),
        msgpack.packb([]) + b"x" * 20,
        msgpack.packb([1, 2, 3] * 9), b"\x80\x04\x95" + bytes(60), struct.pack("<Q", 7) * 9,
    ]  # fmt: skip
    way = rng.randrange(len(MALFORMED_MAPS) + len(others))
    if way < len(others):
        return others[way]
    return msgpack.packb(good(number, **MALFORMED_MAPS[way - len(others)]))


def is_good(number: int, seed: int) -> bool:
    return random.Random(f"{seed}:{number}").random() >= 0.05


def message(number: int, seed: int) -> bytes:
    return msgpack.packb(good(number)) if is_good(number, seed) else malformed(number, seed)


@dataclass
class Server:
    """REP server of numbered messages; `die` closes its socket and binds a new one after a while."""

    endpoint: str
    n_message: int
    seed: int
    rate: float
    next: int = 1
    deaths: int = 0
    _order: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)

    def die(self) -> None:
        """Close the socket with whatever it holds, and come back."""
        self._order.set()

    def end(self) -> None:
        """Stop serving."""
        self._over.set()

    def serve(self) -> None:
        """Answer requests until the last message has been sent."""
        context = zmq.Context()
        begun = time.monotonic()
        while not self._over.is_set() and self.next <= self.n_message:
            with context.socket(zmq.REP) as socket:
                socket.linger = 0
                socket.bind(self.endpoint)
                while not self._over.is_set() and not self._order.is_set() and self.next <= self.n_message:
                    if socket.poll(100):
                        socket.recv()
                        early = begun + self.next / self.rate - time.monotonic()
                        if early > 0:
                            self._over.wait(early)
                        number, self.next = self.next, self.next + 1
                        socket.send(message(number, self.seed))
                if self.next > self.n_message:
                    self._over.wait(20)
            if self._order.is_set():
                self._order.clear()
                self.deaths += 1
                self._over.wait(0.5)
        context.term()


def command(folder: Path, endpoint: str, jobs: int, source: list[str]) -> list[str]:
    (folder / "stress.geom").write_text(GEOMETRY)
    return [
        sys.executable, "-m", "gpuidx", f"--zmq-input={endpoint}", *source, "-g", str(folder / "stress.geom"),
        "-o", str(folder / "stress.stream"), "-j", str(jobs), "--peaks=peakfinder8", "--threshold=50",
        "--indexing=none", "--copy-header=frame_number", f"--zmq-requests={IN_FLIGHT}",
    ]  # fmt: skip


@dataclass
class Outcome:
    """What a run said and wrote."""

    code: int
    log: str
    numbers: Counter[int]

    def count(self, name: str) -> int:
        """A line of the final table."""
        found = re.search(rf"^ *(\d+) +{name}$", self.log, re.MULTILINE)
        return int(found[1]) if found else 0


def outcome(process: "subprocess.Popen[str]", folder: Path) -> Outcome:
    log = (folder / "log").read_text()
    text = (folder / "stress.stream").read_text()
    assert text.count("----- Begin chunk -----") == text.count("----- End chunk -----")
    numbers = Counter(int(n) for n in re.findall(r"^header/int/frame_number = (\d+)$", text, re.MULTILINE))
    assert sum(numbers.values()) == text.count("----- Begin chunk -----"), "a chunk without a number"
    return Outcome(process.returncode, log, numbers)


def under_fire(folder: Path, n_message: int, seed: int, jobs: int, n_kill: int) -> list[str]:
    """REQ, a dying server and killed workers; gives what is wrong."""
    endpoint = f"ipc://{folder}/stress.sock"
    server = Server(endpoint, n_message, seed, rate=n_message / 35)
    thread = threading.Thread(target=server.serve)
    thread.start()
    rng = random.Random(seed)
    source = ["--zmq-request=next", f"--max-frames={n_message}"]
    killed, marks = 0, {}
    with (folder / "log").open("w") as log:
        begun = time.monotonic()
        process = subprocess.Popen(command(folder, endpoint, jobs, source), stderr=log, text=True)
        deaths = [n_message * (n + 1) // 4 for n in range(3)]
        kills = sorted(rng.randrange(n_message // 50, n_message - n_message // 20) for _ in range(n_kill))
        while server.next <= n_message and process.poll() is None:
            time.sleep(0.002)
            if deaths and server.next > deaths[0]:
                deaths.pop(0)
                server.die()
            if kills and server.next > kills[0] and (found := workers(process.pid)):
                kills.pop(0)
                killed += 1
                os.kill(rng.choice(found), signal.SIGKILL)
            if not marks and server.next > min(MEMORY_MARK, n_message // 2):
                marks = memory(process.pid)
        end = memory(process.pid)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        seconds = time.monotonic() - begun
    server.end()
    thread.join()
    o = outcome(process, folder)
    sent = server.next - 1
    right = {n for n in range(1, sent + 1) if is_good(n, seed)}
    received, crashed = o.count("received"), o.count("lost with a worker")
    lost, rejected = sent - received, o.count("rejected")
    missing = right - set(o.numbers)
    print(
        f"REQ: {sent} messages sent in {seconds:.0f} s, {received} received, {len(o.numbers)} in the stream, "
        f"{rejected} rejected, {crashed} lost with {killed} killed workers, "
        f"{server.deaths} deaths of the server, {lost} never received (bound {IN_FLIGHT * server.deaths}), "
        f"{len(missing)} good ones missing"
    )
    for name, before in marks.items():
        print(f"RssAnon of {name}: {before} kB at message {MEMORY_MARK}, {end[name]} kB at the end")
    checks = {
        "exit code 0": o.code == 0,
        "three deaths of the server": server.deaths == 3,
        f"{n_kill} workers killed": killed >= n_kill,
        "at least 30 s": seconds >= 30 or n_message < 20000,
        "received = written + rejected + crashed": received == len(o.numbers) + rejected + crashed,
        "no frame twice": max(o.numbers.values()) == 1,
        "no malformed frame written": set(o.numbers) <= right,
        "never received within the bound": 0 <= lost <= IN_FLIGHT * server.deaths,
        "missing only with killed workers or dead servers": len(missing) <= crashed + lost,
        "at most one frame lost for each killed worker": crashed <= killed,
        "memory flat within 5 %": all(end[name] <= 1.05 * before for name, before in marks.items()),
    }
    return [name for name, holds in checks.items() if not holds]


def memory(pid: int) -> dict[str, int]:
    """RssAnon of main, and the median over the workers, kB (workers are replaced all the time)."""
    of_workers = sorted(filter(None, (anonymous_memory(worker) for worker in workers(pid))))
    return {"main": anonymous_memory(pid), "workers": of_workers[len(of_workers) // 2] if of_workers else 0}


def published(folder: Path, n_message: int, jobs: int) -> list[str]:
    """PUB to one SUB socket and several workers; gives what is wrong."""
    endpoint = f"ipc://{folder}/stress.pub"
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket, (folder / "log").open("w") as log:
        socket.sndhwm, socket.linger = 0, -1
        socket.bind(endpoint)
        source = [
            "--zmq-subscribe=",
            f"--max-frames={n_message}",
            f"--slots={n_message // 10}",
            "--slot-size=1",
        ]
        process = subprocess.Popen(command(folder, endpoint, jobs, source), stderr=log, text=True)
        socket.recv()
        for number in range(1, n_message + 1):
            socket.send(msgpack.packb(good(number)))
            if number % 20 == 0:
                time.sleep(0.02)
        process.wait(120)
    context.term()
    o = outcome(process, folder)
    print(f"SUB -j {jobs}: {n_message} published, {len(o.numbers)} in the stream")
    checks = {
        "exit code 0": o.code == 0,
        "each frame once": o.numbers == Counter(range(1, n_message + 1)),
    }
    return [name for name, holds in checks.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--portable", action="store_true", help="without what only Linux has")
    options = parser.parse_args()
    if options.portable:
        os.environ["GPUIDX_PORTABLE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong = under_fire(folder, options.messages, options.seed, options.jobs, options.kills)
        wrong += published(folder, min(options.messages, 2000), 4)
        if wrong:
            print((folder / "log").read_text()[-3000:])
    print("FAILED: " + "; ".join(wrong) if wrong else "all accounts add up")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
