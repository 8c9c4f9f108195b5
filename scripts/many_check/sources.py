# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of numbered frames that stop half-way until they may go on."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from asapo_check.setting import Numbered

from gpuidx.serving import Outgoing, Served, ServeSettings, serve


class Gated:
    """Sends frames with the numbers 1, 2, … over ZeroMQ: the first half, the rest after `go`.

    Parameters
    ----------
    kind
        Of the socket.
    frames, count
        What is sent, and how many in all.
    """

    def __init__(self, kind: str, frames: Numbered, count: int) -> None:
        self.frames, self.count = frames, count
        self.served = Served(0, 0.0, 0)
        self.address = ""
        self._gate, self._ready, self._stop = threading.Event(), threading.Event(), threading.Event()
        settings = ServeSettings(serve=kind, queue=count)
        self._thread = threading.Thread(target=self._serve, args=(settings,))

    def _serve(self, settings: ServeSettings) -> None:
        self.served = serve(self._messages(), settings, self._tell, self._stop)

    def _tell(self, address: str) -> None:
        self.address = address
        self._ready.set()

    def _messages(self) -> Iterator[Outgoing]:
        for number in range(1, self.count + 1):
            if number == self.count // 2:
                self._gate.wait()
            yield Outgoing([self.frames.payload(number)])

    def __enter__(self) -> "Gated":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._gate.set()
        self._thread.join()

    def go(self) -> None:
        """Send the rest."""
        self._gate.set()

    def wait(self) -> int:
        """Wait until all is sent; gives the number of frames."""
        self._thread.join()
        return self.served.sent


class RelayProcess:
    """``gpuidx relay`` on a publisher, as a process."""

    def __init__(self, folder: Path, publisher: str) -> None:
        self._log = folder / "log.relay"
        words = [f"--zmq-input={publisher}", "--zmq-subscribe=", "--bind=tcp://127.0.0.1:*"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gpuidx", "relay", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        found = re.search(r" at (tcp://\S+)", self.process.stdout.readline())
        assert found is not None, self._log.read_text()
        self.address = found[1]

    def finish(self) -> str:
        """End it when readers took everything; gives its last lines."""
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        return self._log.read_text()
