# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for the loop of a device process, as they would come from the main process."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from gpuidx.backends.cuda.clock import rate
from gpuidx.handover import COUNTERS, Descriptor


class Feed:
    """Gives frames that lie in slots to a `Service`, again and again, and notes when each is answered.

    Parameters
    ----------
    descriptors
        Of the frame in each slot.
    n_frame, seconds
        How many are given at most, and how long.
    speed
        Frames that arrive in a second; 0: each slot's again as soon as it is answered.

    Attributes
    ----------
    speed
        As given.
    counters
        Of the device process, see `gpuidx.handover`.
    latencies
        Seconds from the arrival of each frame to its answer, those left out that came with the first round of
        the slots.
    answers
        Counts answers by kind.
    """

    def __init__(
        self, descriptors: Sequence[Descriptor], n_frame: int, seconds: float, speed: float = 0.0
    ) -> None:
        self.counters = [0] * COUNTERS
        self.latencies: list[float] = []
        self.answers: Counter[str] = Counter()
        self.speed = speed
        self._descriptors, self._n_frame = descriptors, n_frame
        self._free = deque(range(len(descriptors)))
        self._under_way: dict[int, tuple[int, float]] = {}
        self._n_given = 0
        self._begun = time.monotonic()
        self._until = self._begun + seconds
        self._answered: list[float] = []

    @property
    def frames_per_s(self) -> float:
        """Answers in a second, as many as there are slots left out."""
        n_first, times = len(self._descriptors), self._answered
        return rate(len(times) - n_first, 1e3 * (times[-1] - times[n_first - 1])) if times[n_first:] else 0.0

    def poll(self, timeout: float | None) -> list[tuple[Any, ...]] | None:
        """Frames that have arrived, waited for as long as *timeout* says; None when all are answered."""
        now = time.monotonic()
        if not (tasks := self._arrived(now)):
            if not self._under_way and self._is_over(now):
                return None
            next_one = self._begun + self._n_given / self.speed if self.speed else now
            waits = [] if timeout is None else [timeout]
            waits += [next_one - now] if self._free and not self._is_over(now) else []
            time.sleep(max(0.0, min(waits, default=0.0)))
            tasks = self._arrived(time.monotonic())
        return tasks

    def _is_over(self, now: float) -> bool:
        return self._n_given >= self._n_frame or now >= self._until

    def _arrived(self, now: float) -> list[tuple[Any, ...]]:
        tasks = []
        while self._free and not self._is_over(now):
            arrival = self._begun + self._n_given / self.speed if self.speed else now
            if arrival > now:
                break
            slot = self._free.popleft()
            self._under_way[self._n_given] = slot, arrival
            tasks.append((self._n_given, slot, *self._descriptors[slot]))
            self._n_given += 1
        return tasks

    def answer(self, serial: int, *values: Any) -> None:
        """Take the answer of one frame."""
        self.answer_all([(serial, *values)])

    def answer_all(self, answers: Iterable[tuple[Any, ...]]) -> None:
        """Take answers: what was found lies in the slots now."""
        for serial, kind, *_ in answers:
            slot, arrival = self._under_way.pop(serial)
            self._free.append(slot)
            self.answers[kind] += 1
            self._answered.append(time.monotonic())
            if serial >= len(self._descriptors):
                self.latencies.append(self._answered[-1] - arrival)
