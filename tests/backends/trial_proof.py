# SPDX-License-Identifier: GPL-3.0-or-later
"""A short proof that the trials on the pretended device are right: frames that go every way through them."""

import gc
from functools import cache
from unittest.mock import patch

import numpy as np
from backends.device_trials import bits, device_trials, index_lists, start
from backends.peak_lists import flat_lattice, simulated, trials
from backends.ways import DEVICE

from gpuidx.backends.constants import ACCEPT, ATTEMPTS, FEWEST_PEAKS, SAME_ANGLE
from gpuidx.backends.cpu.score import agree, believed, is_strong
from gpuidx.backends.cpu.search import _different, attempt
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.cuda import trials as trials_module
from gpuidx.lattice import same_lattice
from gpuidx.model import Candidate
from gpuidx.simulation.peaklists import EXPERIMENTS

LARGEST_ANGLE = 0.01
OPTIONS = {"retry": True, "multi": True, "most_frames": 8}


@cache
def proof_lists(cell_name: str) -> tuple[np.ndarray, ...]:
    """Peaks of each frame (peak, xyz) for a cell."""
    q = simulated(cell_name, 0, n_peaks=30).q
    if cell_name == "p1":  # both signs; lists that are found with several attempts
        blurred = simulated("p1", 0, n_peaks=30, bandwidth=0.01).q
        return q, blurred, simulated("p1", 1, n_peaks=16, noise=2.0).q
    weak = np.concatenate([simulated("lyso", 32, n_peaks=13).q, simulated("lyso", 1032, spurious=1.0).q])
    two = simulated("lyso", 1, n_peaks=50, n_lattices=2).q
    reciprocal = np.linalg.inv(trials("lyso").cell.reduced).T
    row = [(3, k, 2) for k in range(-4, 5)] @ reciprocal  # fits the lattice, and many others
    return q, two, weak, row, np.repeat(q[:1], 9, axis=0), q[:5], q[:0], flat_lattice()


def findings(check: bool = False) -> set[str]:
    """What is wrong with the trials: nothing, if they are as they should be.

    ``"number"``, ``"tries"``, ``"lattices"``, ``"attempts"``: these are not the CPU's; ``"chosen"``: other
    orientations than the CPU would go on with; ``"bits"``: a frame alone has others than it has in a batch;
    besides these the kinds of reports of the emulator, and names of exceptions.  With *check* few frames are
    taken.
    """
    found: set[str] = set()
    _forget()
    DEVICE.set(order="lazy", check=check)
    try:
        _prove("lyso", found, 2 if check else None)
        if not check:
            _prove("p1", found)
            for name, lists in (("lyso", proof_lists("lyso")[:2]), ("p1", proof_lists("p1"))):
                for q in lists:
                    _prove_attempts(name, q, found)
    except Exception as error:
        found.add(type(error).__name__)
    found |= {_kind(message) for message in DEVICE.messages}
    _forget()
    DEVICE.set(order="lazy", check=False)
    return found


def _forget() -> None:
    """Give all memory back, so that nothing is found in it that was left by another run."""
    import cupy

    DEVICE.reset()
    device_trials.cache_clear()
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def _kind(message: str) -> str:
    """From "kernel: kind: text"; any other message as it is."""
    parts = message.split(": ")
    return parts[1] if len(parts) > 2 else message


@cache
def _expected(cell_name: str) -> list[tuple[list[Candidate], int]]:
    """Of the CPU; a frame without peaks is not tried."""
    sigma, own = EXPERIMENTS[cell_name].shift_sigma, trials(cell_name, retry=True, multi=True)
    return [own.index(q, sigma) if len(q) else ([], 0) for q in proof_lists(cell_name)]


def _prove(cell_name: str, found: set[str], most_lists: int | None = None) -> None:
    import cupy

    lists, sigma = proof_lists(cell_name)[:most_lists], EXPERIMENTS[cell_name].shift_sigma
    with cupy.cuda.using_allocator(None):  # each array with a guard of its own
        own = device_trials(cell_name, **OPTIONS)
        results = index_lists(own, lists, sigma)
        alone = index_lists(own, lists[:1], sigma)
    if bits(alone[0]) != bits(results[0]):
        found.add("bits")
    for (candidates, n_tries), (expected, n_expected) in zip(
        results, _expected(cell_name)[:most_lists], strict=True
    ):
        if n_tries != n_expected:
            found.add("tries")
        if len(candidates) != len(expected):
            found.add("number")
        elif not all(map(_alike, candidates, expected)):
            found.add("lattices")


def _alike(one: Candidate, other: Candidate) -> bool:
    same, angle = same_lattice(one.axes, other.axes)
    axes = np.allclose(one.axes, other.axes, atol=0.003)
    shift = np.allclose(one.shift, other.shift, atol=1e-6)
    return same and axes and shift and angle < LARGEST_ANGLE and abs(one.score - other.score) < 0.01


def _prove_attempts(cell_name: str, q: np.ndarray, found: set[str]) -> None:
    sigma = EXPERIMENTS[cell_name].shift_sigma
    if attempts_made(cell_name, q, sigma) != attempts_of_the_cpu(cell_name, q, sigma):
        found.add("attempts")
    arrays = device_trials(cell_name, most_frames=1).arrays
    names = ("orientations", "n_orientation", "chosen", "n_chosen")
    buffers = {name: arrays[name].get() for name in names}
    count, chosen = int(buffers["n_orientation"][0]), buffers["chosen"][0, : int(buffers["n_chosen"][0])]
    orientations = buffers["orientations"].view(trials_module.LATTICE)[0, :count, 0]
    order = np.argsort(-orientations["score"], kind="stable")
    if list(chosen) != list(_different(orientations["axes"].astype(float), order)):
        found.add("chosen")


def attempts_made(cell_name: str, q: np.ndarray, shift_sigma: float) -> int:
    """How many attempts the first trial takes on the device."""
    import cupy

    rounds, stream = 1, cupy.cuda.Stream(non_blocking=True)
    with patch.multiple(trials_module, FIRST_ROUND=1, LATER_ROUND=1):
        own = device_trials(cell_name, most_frames=1)
        batch = start(own, [q], shift_sigma, stream)
        batch.fetched.synchronize()
        while not own.advance(batch, stream):
            rounds += 1
            batch.fetched.synchronize()
    return rounds


@cache
def _cpu_attempts(cell_name: str, q: bytes, shift_sigma: float) -> int:
    cell = trials(cell_name).cell.tables
    peaks, length = usable_peaks(np.frombuffer(q).reshape(-1, 3))
    buffer = np.empty(50_000, np.float32)
    best, best_axes = -1e9, np.zeros((3, 3))
    if len(length) < FEWEST_PEAKS:
        return 1
    for number, (anchor, kind) in enumerate(ATTEMPTS):
        score, axes, shift = attempt(peaks, length, cell, anchor, kind, shift_sigma, buffer)
        score, n_indexed = believed(score, peaks, axes, shift)
        if score < ACCEPT:
            continue
        if best >= ACCEPT and agree(axes, best_axes, SAME_ANGLE):
            return number + 1
        if score > best:
            best, best_axes = score, axes
            if is_strong(score, len(length), n_indexed):
                return number + 1
    return len(ATTEMPTS)


def attempts_of_the_cpu(cell_name: str, q: np.ndarray, shift_sigma: float) -> int:
    """How many it takes on the CPU: `search.find_lattice`, counted."""
    return _cpu_attempts(cell_name, np.ascontiguousarray(q).tobytes(), shift_sigma)
