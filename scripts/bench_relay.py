# SPDX-License-Identifier: GPL-3.0-or-later
"""What gpuidx relay costs, beside a loop that does nothing but forward the same messages from PULL to ROUTER.

Messages are pushed over TCP as fast as they are taken; readers ask for them, with four requests each.  Both
are measured in turns, so that other load on the machine meets both.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing import get_context
from typing import Any

import zmq

from gpuidx.measure.processes import cpu_seconds

ANY_PORT = "tcp://127.0.0.1:*"
REQUESTS = 4
"""In flight at the same time, of each reader: as of a gpuidx."""

QUEUE = 4
"""Messages that a socket holds."""

CONTEXT = get_context("spawn")
PATIENCE = 60.0


def send(size: int, tell: Any) -> None:
    """Push one message again and again."""
    socket = bound(zmq.PUSH, tell)
    message = zmq.Frame(b"\x81" + bytes(size - 1), copy=False)
    while True:
        socket.send(message, copy=False)


def forward(source: str, tell: Any) -> None:
    """What is compared with: each message to the next that asks."""
    router = bound(zmq.ROUTER, tell)
    pull = router.context.socket(zmq.PULL)
    pull.rcvhwm = QUEUE
    pull.connect(source)
    waiting: deque[list[bytes]] = deque()
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    while True:
        poller.register(pull, zmq.POLLIN if waiting else 0)
        events = dict(poller.poll())
        if router in events:
            *before, _ = router.recv_multipart()
            waiting.append(before)
        if pull in events:
            router.send_multipart([*waiting.popleft(), *pull.recv_multipart(copy=False)], copy=False)


def bound(kind: int, tell: Any) -> Any:
    socket = zmq.Context().socket(kind)
    socket.sndhwm = QUEUE
    socket.bind(ANY_PORT)
    tell.send(socket.last_endpoint.decode())
    return socket


def read(address: str, count: Any) -> None:
    """Ask for messages, and count them."""
    context, poller = zmq.Context(), zmq.Poller()
    for _ in range(REQUESTS):
        socket = context.socket(zmq.REQ)
        socket.connect(address)
        socket.send(b"next")
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            socket.recv(copy=False)
            socket.send(b"next")
            count.value += 1


@contextmanager
def process(body: Callable[..., None], *args: Any) -> Any:
    """A process of its own; gives the address that it tells, and its number."""
    here, there = CONTEXT.Pipe()
    child = CONTEXT.Process(target=body, args=(*args, there), daemon=True)
    child.start()
    try:
        yield here.recv(), child.pid
    finally:
        child.kill()
        child.join()


@contextmanager
def relay(source: str) -> Any:
    """The program itself."""
    words = ["relay", f"--zmq-input={source}", "--zmq-pull", f"--bind={ANY_PORT}", "--memory=100"]
    with subprocess.Popen(
        [sys.executable, "-m", "gpuidx", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        try:
            found = re.search(r" at (tcp://\S+)", child.stdout.readline())
            assert found is not None
            yield found[1], child.pid
        finally:
            child.kill()


def measured(how: str, size: int, n_reader: int, seconds: float) -> tuple[float, float]:
    """Messages a second that readers got, and CPU ms a message of what stands between."""
    counts = [CONTEXT.Value(c_longlong, lock=False) for _ in range(n_reader)]

    def n() -> int:
        return sum(count.value for count in counts)

    with process(send, size) as (source, _):
        between = relay(source) if how == "gpuidx relay" else process(forward, source)
        with between as (address, pid):
            readers = [CONTEXT.Process(target=read, args=(address, count), daemon=True) for count in counts]
            for reader in readers:
                reader.start()
            end = time.monotonic() + PATIENCE
            while not all(count.value for count in counts):
                assert time.monotonic() < end, "no message came"
                time.sleep(0.05)
            begun, before, spent = time.monotonic(), n(), cpu_seconds(pid)
            time.sleep(seconds)
            n_message, spent = n() - before, cpu_seconds(pid) - spent
            elapsed = time.monotonic() - begun
            for reader in readers:
                reader.kill()
                reader.join()
    return n_message / elapsed, 1e3 * spent / max(n_message, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[8, 400, 4000], help="kB")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    print(f"{'kB':>6}  {'':14}{'messages/s':>11}{'MB/s':>8}{'CPU ms a message':>18}")
    for size in given.sizes:
        turns: dict[str, list[tuple[float, float]]] = {"plain loop": [], "gpuidx relay": []}
        for _ in range(given.turns):
            for how, rows in turns.items():
                rows.append(measured(how, 1000 * size, given.readers, given.seconds))
        for how, rows in turns.items():
            rate, ms = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{size:>6}  {how:14}{rate:>11.0f}{rate * size / 1e3:>8.0f}{ms:>18.3f}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
