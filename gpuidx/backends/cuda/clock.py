# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of the device: of a piece of work, and of each kernel by its name.  Nothing a run needs.

They come from CUDA events; a time of 0, as a pretended device may give, makes rates 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.backends.cuda.kernels import Kernels, Launch


def rate(amount: float, milliseconds: float) -> float:
    """Amount per second; 0 if no time has passed."""
    return 1e3 * amount / milliseconds if milliseconds > 0 else 0.0


def median_ms(stream: Any, work: Callable[[], None], repeats: int) -> float:
    """Median time that the device takes for what *work* puts on *stream*, ms, after one call to warm up."""
    import cupy

    work()
    pairs = []
    for _ in range(repeats):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record(stream)
        work()
        end.record(stream)
        pairs.append((start, end))
    stream.synchronize()
    return float(np.median([cupy.cuda.get_elapsed_time(start, end) for start, end in pairs]))


class KernelClock:
    """Puts an event before and behind each kernel that is started through it.

    These events are on the stream, too, and kernels of a few microseconds take longer between them.
    """

    def __init__(self) -> None:
        self._events: list[tuple[str, Any, Any]] = []

    def start(self, name: str, stream: Any, launch: Callable[[], None]) -> None:
        """Start a kernel."""
        import cupy

        before, behind = cupy.cuda.Event(), cupy.cuda.Event()
        before.record(stream)
        launch()
        behind.record(stream)
        self._events.append((name, before, behind))

    def take(self) -> dict[str, list[float]]:
        """Times of each kernel since the last call, ms; to be called when the stream is done."""
        import cupy

        times: dict[str, list[float]] = {}
        for name, before, behind in self._events:
            times.setdefault(name, []).append(cupy.cuda.get_elapsed_time(before, behind))
        self._events = []
        return times


@dataclass(frozen=True, eq=False)
class TimedLaunch(Launch):
    """A `Launch` with a clock."""

    clock: KernelClock

    @classmethod
    def of(cls, plain: Launch, clock: KernelClock) -> "TimedLaunch":
        """The same launch with a clock."""
        return cls(plain.name, plain.function, plain.grid, plain.block, plain.values, clock)

    def start(self, stream: Any) -> None:
        """As `Launch.start`."""
        self.clock.start(self.name, stream, lambda: Launch.start(self, stream))


class TimedKernels:
    """Stands for `Kernels`: the same kernels, with a clock.

    Attributes
    ----------
    plain
        The kernels without it.
    """

    def __init__(self, kernels: Kernels) -> None:
        self.plain = kernels
        self.numbers = kernels.numbers
        self._clock = KernelClock()

    def threads(self, name: str) -> int:
        """As `Kernels.threads`."""
        return self.plain.threads(name)

    def parameters(self, name: str) -> list[str]:
        """As `Kernels.parameters`."""
        return self.plain.parameters(name)

    def prepare(self, name: str, grid: tuple[int, ...], /, **arguments: Any) -> Launch:
        """As `Kernels.prepare`."""
        return TimedLaunch.of(self.plain.prepare(name, grid, **arguments), self._clock)

    def launch(self, name: str, grid: tuple[int, ...], stream: Any, /, **arguments: Any) -> None:
        """As `Kernels.launch`."""
        self.prepare(name, grid, **arguments).start(stream)

    def take_times(self) -> dict[str, float]:
        """Median time of each kernel since the last call, ms; to be called when the stream is done."""
        return {name: float(np.median(times)) for name, times in self._clock.take().items()}
