# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring the indexing trials of one batch on a CUDA device, again and again.  Nothing a run needs."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.backends.cuda.clock import KernelClock, TimedLaunch
from gpuidx.backends.cuda.kernels import Launch
from gpuidx.backends.cuda.trials import DeviceTrials, TrialBatch


@dataclass(frozen=True, kw_only=True)
class TrialTimes:
    """Times of the trials of a batch, ms: medians.

    Attributes
    ----------
    device
        From the first kernel to the end of the last round, by the device's own clock; where there are several
        rounds, with the time between them in which the host sees who is left.
    first_round
        The first round alone.
    wall
        From the call that starts the trials to that which finds them over.
    enqueue
        Of the host, to put the first round on the stream.
    rounds
        Rounds of attempts.
    launches
        Kernels of the first round.
    kernels
        Of each kernel by name, all its launches of the first round together.
    """

    device: float
    first_round: float
    wall: float
    enqueue: float
    rounds: int
    launches: int
    kernels: dict[str, float]


class TimedTrials:
    """A batch whose trials are made again and again.

    Parameters
    ----------
    trials
        What makes them.
    batch
        Whose trials were made once, and are over.
    stream
        That they are made on.
    """

    def __init__(self, trials: DeviceTrials, batch: TrialBatch, stream: Any) -> None:
        self._trials, self._batch, self._stream = trials, batch, stream
        q, n_given, shift_sigma = (batch.arrays[name] for name in ("q", "n_given", "shift_sigma"))
        self._given = q, n_given, shift_sigma
        self._n_frame = batch.n_frame

    def measure(self, repeats: int) -> TrialTimes:
        """All times, each from so many repetitions."""
        host = np.array([self._by_host() for _ in range(repeats)])
        device = np.array([self._by_events() for _ in range(repeats)])
        kernels = [self._by_kernel() for _ in range(repeats)]
        each = {name: [sum(one[name]) for one in kernels] for name in kernels[0]}
        return TrialTimes(
            enqueue=float(np.median(host[:, 0])),
            wall=float(np.median(host[:, 1])),
            first_round=float(np.median(device[:, 0])),
            device=float(np.median(device[:, 1])),
            rounds=round(float(device[0, 2])),
            launches=sum(len(times) for times in kernels[0].values()),
            kernels={name: float(np.median(times)) for name, times in each.items()},
        )

    def _start(self) -> None:
        self._trials.start(self._batch, *self._given, self._n_frame, self._stream)

    def _by_host(self) -> tuple[float, float]:
        """Milliseconds to enqueue the first round, and until all is over."""
        begun = time.perf_counter()
        self._start()
        enqueued = time.perf_counter()
        self._trials.finish(self._batch, self._stream)
        return 1e3 * (enqueued - begun), 1e3 * (time.perf_counter() - begun)

    def _by_events(self) -> tuple[float, float, int]:
        """Milliseconds of the first round and of all, and the number of rounds."""
        import cupy

        begin = self._stream.record()
        self._start()
        ends = [self._stream.record()]
        ends[0].synchronize()
        while not self._trials.advance(self._batch, self._stream):
            ends.append(self._stream.record())
            ends[-1].synchronize()
        first, last = (cupy.cuda.get_elapsed_time(begin, end) for end in (ends[0], ends[-1]))
        return first, last, len(ends)

    def _by_kernel(self) -> dict[str, list[float]]:
        """Milliseconds of each launch of the first round, by the kernel's name."""
        clock, own = KernelClock(), self._batch
        plain = own.begin, own.attempt
        own.begin, own.attempt = (_timed(launches, clock) for launches in plain)
        try:
            self._start()
            self._stream.synchronize()
            times = clock.take()
        finally:
            own.begin, own.attempt = plain
        self._trials.finish(own, self._stream)
        return times


def _timed(launches: list[Launch], clock: KernelClock) -> list[Launch]:
    return [TimedLaunch.of(launch, clock) for launch in launches]
