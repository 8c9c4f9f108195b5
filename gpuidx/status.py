# SPDX-License-Identifier: GPL-3.0-or-later
"""What the run tells while it works: rates, latency, losses, and why nothing is found.

The first line has indexamajig's fields in its order, so that programs which watch for it go on working.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gpuidx.flow.accounts import CRASHED, DROPPED, INDEXED, REJECTED, Accounts

NO_PEAKS = "--threshold or --min-snr too high, --max-res too small, a mask that covers everything, no beam"
NOT_INDEXED = (
    "another cell than that of -p (if it was given), a wrong camera length, photon energy or beam centre, "
    "or peaks that are not Bragg peaks"
)
ALL_REFUSED = (
    "--tolerance too tight for the true cell, or too many peaks that belong to no lattice "
    "(--no-check-peaks, --min-snr)"
)
"""Likely causes where a stage lets nothing through."""


@dataclass
class Tally:
    """Sums over the frames that are finished.

    Attributes
    ----------
    peaks, candidates, crystals
        Peaks found, lattices that the trials accepted, crystals that passed the checks.
    with_peaks, with_candidates
        Frames that have any.
    """

    peaks: int = 0
    candidates: int = 0
    crystals: int = 0
    with_peaks: int = 0
    with_candidates: int = 0

    def add(self, n_peak: int, n_candidate: int, n_crystal: int) -> None:
        """Count one frame."""
        self.peaks += n_peak
        self.candidates += n_candidate
        self.crystals += n_crystal
        self.with_peaks += n_peak > 0
        self.with_candidates += n_candidate > 0


class DeviceUse(NamedTuple):
    """What the devices of a run did for a while.

    Attributes
    ----------
    full
        How full their batches were, 0 to 1.
    working, filling
        Shares of the time with a batch under way, and with frames that wait for others to fill one; the rest
        is without any frame.
    """

    full: float
    working: float
    filling: float

    def text(self) -> str:
        """For the status line; names what they wait for if that takes a tenth of the time or more."""
        waits = {"frames": 1 - self.working - self.filling, "batches to fill": self.filling}
        most = max(waits, key=lambda what: waits[what])
        waiting = f", waits for {most} {waits[most]:.0%}" if waits[most] >= 0.1 else ""
        return f"batches {self.full:.0%} full; device works {self.working:.0%} of the time{waiting}"


@dataclass
class Status:
    """Lines for the terminal, made from the accounts.

    Parameters
    ----------
    interval
        Seconds between two lines.
    advise_after
        Frames without hit or crystal before causes are suggested.
    indexes
        Whether frames are indexed at all.
    """

    interval: float
    advise_after: int
    indexes: bool
    tally: Tally = field(default_factory=Tally)
    _latency: deque[float] = field(default_factory=lambda: deque(maxlen=20000))
    _begun: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)
    _last_done: int = 0
    _last_crystals: int = 0
    _advised: set[str] = field(default_factory=set)

    def finished(self, latency: float) -> None:
        """Note how long a frame took from its arrival to its chunk in the file, s."""
        self._latency.append(latency)

    def due(self) -> bool:
        """Whether it is time for the next line."""
        return time.monotonic() - self._last >= self.interval

    def lines(
        self, accounts: Accounts, queues: Mapping[str, float], use: DeviceUse | None = None
    ) -> list[str]:
        """The next status lines, and whatever advice is new.

        Parameters
        ----------
        accounts
            Of the run.
        queues
            How full each queue is, 0 to 1, by name, in the order of the flow.
        use
            Of the devices; None if they had no batch.
        """
        now = time.monotonic()
        elapsed = max(now - self._last, 1e-9)
        done, crystals = accounts.processed, self.tally.crystals
        rate = (done - self._last_done) / elapsed
        ours = f"{rate:.1f} frames/s, {(crystals - self._last_crystals) / elapsed:.1f} crystals/s, "
        ours += self._latency_text() + _loss_text(accounts)
        if use is not None:
            ours += "; " + use.text()
        if queues and max(queues.values()) > 0.5:
            fullest = max(queues, key=lambda name: queues[name])
            ours += f"; fullest queue: {fullest} ({queues[fullest]:.0%})"
        self._last, self._last_done, self._last_crystals = now, done, crystals
        self._latency.clear()
        return [
            _reference_line(accounts, crystals, f", {rate:.1f} images/sec"),
            ours,
            *self._advice(accounts),
        ]

    def final_lines(self, accounts: Accounts, notes: Mapping[str, int]) -> list[str]:
        """What is said when the run has ended; *notes* are the source's own counts."""
        elapsed = time.monotonic() - self._begun
        rate = accounts.processed / max(elapsed, 1e-9)
        return [
            "Final: " + _reference_line(accounts, self.tally.crystals, ""),
            f"{elapsed:.1f} s, {rate:.1f} frames/s over the whole run",
            *accounts.lines(),
            *(f"{n:7d}  {what}" for what, n in notes.items() if n),
            *self._advice(accounts),
        ]

    def _latency_text(self) -> str:
        if not self._latency:
            return "latency -"
        ordered = sorted(self._latency)
        p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99))
        return f"latency {1e3 * p50:.0f} ms (99 %: {1e3 * p99:.0f} ms)"

    def _advice(self, accounts: Accounts) -> list[str]:
        """One hint for the first stage that lets nothing through, said once."""
        stage, text = _empty_stage(accounts, self.tally, self.advise_after, self.indexes)
        if not stage or stage in self._advised:
            return []
        self._advised.add(stage)
        return [f"note: {text}; 'gpuidx check' with the same options looks into one frame"]


def profile_lines(stages: Mapping[str, float], accounts: Accounts) -> list[str]:
    """Where the time went: wall-clock time of the workers by stage, s; CPU time of this process."""
    frames = max(accounts.processed, 1)
    rows = {**stages, "main process (CPU)": time.process_time()}
    lines = [f"{name:24s} {1e3 * seconds / frames:10.3f} {seconds:9.2f}" for name, seconds in rows.items()]
    return [f"{'stage':24s} {'ms a frame':>10s} {'total s':>9s}", *lines]


def _reference_line(accounts: Accounts, crystals: int, rate: str) -> str:
    images, hits, indexed = accounts.processed, accounts.hits, accounts.count(INDEXED)
    of_images, of_hits = max(images, 1), max(hits, 1)
    return (
        f"{images} images processed, {hits} hits ({100 * hits / of_images:.1f}%), "
        f"{indexed} indexable ({100 * indexed / of_hits:.1f}% of hits, "
        f"{100 * indexed / of_images:.1f}% overall), "
        f"{crystals} crystals{rate}."
    )


def _loss_text(accounts: Accounts) -> str:
    parts = []
    for state in (REJECTED, CRASHED, DROPPED):
        reasons = accounts.reasons(state)
        if reasons:
            inner = ", ".join(f"{reason} {n}" for reason, n in list(reasons.items())[:4])
            parts.append(f"{state} {sum(reasons.values())} ({inner})")
    return "; " + "; ".join(parts) if parts else ""


def _empty_stage(accounts: Accounts, tally: Tally, after: int, indexes: bool) -> tuple[str, str]:
    """The first stage without any result although *after* frames arrived, and the likely causes."""
    processed, received = accounts.processed, accounts.received
    if received >= after and processed == 0:
        why = next((f"mostly: {reason}" for reason in accounts.reasons(REJECTED)), "see above")
        return "decode", f"no frame could be decoded so far ({why}); compare the geometry with the messages"
    if processed >= after and tally.with_peaks == 0:
        return "peaks", f"no peaks in any frame so far; likely causes: {NO_PEAKS}"
    if processed >= after and accounts.hits == 0:
        mean = tally.peaks / processed
        return "hits", f"no frame has --min-peaks peaks so far ({mean:.1f} peaks a frame); lower --min-peaks?"
    if indexes and accounts.hits >= after and tally.with_candidates == 0:
        return "trials", f"no hit has been indexed so far; likely causes: {NOT_INDEXED}"
    if indexes and tally.with_candidates >= after and tally.crystals == 0:
        return (
            "checks",
            f"lattices are found, but all are refused by the checks; likely causes: {ALL_REFUSED}",
        )
    return "", ""
