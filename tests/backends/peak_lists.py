# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists with truth, made up or from the reference data, and the judgement of what was found in them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.trials import Trials
from gpuidx.cell import UnitCell
from gpuidx.lattice import same_lattice
from gpuidx.model import Candidate
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS, PeakListSettings, simulate_peaks

CONDITIONS: dict[str, dict[str, Any]] = {
    "sixty peaks": {},
    "ten peaks": {"n_peaks": 10},
    "half spurious": {"n_peaks": 30, "spurious": 0.5},
    "two thirds spurious": {"spurious": 0.67},
    "cell wrong by two percent": {"cell_error": 0.02},
    "wrong geometry": {"cell_error": 0.01, "shift": (1.5, -1.4), "distance_error": 0.005},
    "one percent bandwidth": {"bandwidth": 0.005},
    "one pixel noise": {"noise": 1.0},
    "half missing": {"missing": 0.5},
}
"""Settings of lists with one lattice, which must be found."""

BENCHMARK_SETS = {
    "clean": CONDITIONS["sixty peaks"],
    "few15": {"n_peaks": 15},
    "few10": CONDITIONS["ten peaks"],
    "spur50": CONDITIONS["half spurious"],
    "spur67": CONDITIONS["two thirds spurious"],
    "cell2": CONDITIONS["cell wrong by two percent"],
    "geom": CONDITIONS["wrong geometry"],
    "bw1": CONDITIONS["one percent bandwidth"],
    "lat2": {"n_peaks": 90, "n_lattices": 2},
    "lat3": {"n_peaks": 135, "n_lattices": 3},
    "random": {"spurious": 1.0},
}
"""Of lists like those of each set of the benchmark."""


@dataclass(frozen=True, eq=False)
class TrueList:
    """Peaks of one frame.

    Attributes
    ----------
    cell_name
        Key of `EXPERIMENTS`.
    set_name
        Of the scenario.
    q : (peak, xyz)
        Å⁻¹.
    shift_sigma
        Å⁻¹.
    truth : (lattice, row, xyz)
        Primitive rows, Å.
    """

    cell_name: str
    set_name: str
    q: NDArray[np.float64]
    shift_sigma: float
    truth: NDArray[np.float64]


@cache
def trials(cell_name: str, retry: bool = False, multi: bool = False) -> Trials:
    """Trials for one of the cells of `EXPERIMENTS`, made once."""
    return Trials(EXPERIMENTS[cell_name].cell, IndexOptions(retry=retry, multi=multi))


def simulated(cell_name: str, seed: int, **settings: object) -> TrueList:
    """A made-up list."""
    experiment = EXPERIMENTS[cell_name]
    rng = np.random.default_rng([seed, *cell_name.encode()])
    peaks = simulate_peaks(experiment, PeakListSettings(**settings), rng)  # type: ignore[arg-type]
    return TrueList(cell_name, "simulated", peaks.q, experiment.shift_sigma, peaks.truth)


def with_weak_peaks(name: str, seed: int) -> TrueList:
    """A list that has more spurious peaks than the trials stand, all of them weak."""
    good, weak = simulated(name, seed, n_peaks=13), simulated(name, 1000 + seed, spurious=1.0)
    q = np.concatenate([good.q, weak.q])
    return TrueList(name, "weak", q, good.shift_sigma, good.truth)


def odd_lists() -> dict[str, NDArray[np.float64]]:
    """Peaks that are no lattice, or too few for one."""
    good = simulated("lyso", 0).q
    line = np.outer(np.linspace(0.01, 0.4, 30), (0.6, 0.8, -0.05))
    return {
        "no peaks": good[:0],
        "one peak": good[:1],
        "two peaks": good[:2],
        "three peaks": good[:3],
        "five peaks": good[:5],
        "80 equal peaks": np.repeat(good[:1], 80, axis=0),
        "2048 equal peaks": np.repeat(good[:1], 2048, axis=0),
        "two points": np.repeat(good[:2], 60, axis=0),
        "three points": np.repeat(good[:3], 60, axis=0),
        "nearly equal peaks": good[:1] + np.random.default_rng(0).normal(size=(80, 3)) * 1e-6,
        "a line through the origin": line,
        "a line": line + np.array((0.02, -0.01, 0.0)),
        "all NaN": np.full((20, 3), np.nan),
        "all infinite": np.full((20, 3), np.inf),
        "all zero": np.zeros((20, 3)),
        "absurd lengths": np.full((20, 3), 1e200),
    }


def flat_lattice(wavelength: float = 0.0251, finest: float = 6.0) -> NDArray[np.float64]:
    """Forty peaks of lysozyme with its short axis along the beam: every peak has the index 0 there.

    Electrons to 6 Å, unless another wavelength and resolution is asked for, Å.
    """
    rng, n = np.random.default_rng(2), range(-13, 14)
    kl = np.array([(k, m) for k in n for m in n if 0 < k * k + m * m < (79.0 / finest) ** 2])
    g = np.zeros((40, 3))
    g[:, :2] = rng.permutation(kl)[:40] @ [[0.6, 0.8], [-0.8, 0.6]] / 79.0
    g[:, 2] = -0.5 * wavelength * (g**2).sum(1)  # on the Ewald sphere
    return g + rng.normal(size=g.shape) * (1e-4, 1e-4, 0.0)


def flat_random(n_peaks: int, seed: int) -> NDArray[np.float64]:
    """Random peaks to 2.2 Å on the Ewald sphere of electrons."""
    rng = np.random.default_rng(seed)
    length, angle = 0.45 * np.sqrt(rng.uniform(0.002, 1, n_peaks)), rng.uniform(0, 2 * np.pi, n_peaks)
    return np.column_stack([length * np.cos(angle), length * np.sin(angle), -0.5 * 0.0251 * length**2])


def lines(count: int) -> list[NDArray[np.float64]]:
    """Evenly spaced peaks on one line: any lattice with one row of that spacing would explain them."""
    line = np.outer(np.linspace(0.01, 0.4, 30), (0.6, 0.8, -0.05))
    noise = np.random.default_rng(0).normal(size=(count, 30, 3)) * 1e-5
    return [line + number % 2 * np.array((0.02, -0.01, 0.0)) + noise[number] for number in range(count)]


def read_benchmark(folder: Path) -> list[TrueList]:
    """All frames of ``indexing/bench.npz`` of the reference data, in its order."""
    with np.load(folder / "indexing" / "bench.npz") as file:
        z = {name: file[name] for name in file.files}
    meta = json.loads(str(z["meta"]))
    lists = []
    for i, (name, set_name) in enumerate(zip(z["cell_name"], z["set_name"], strict=True)):
        m = meta[str(name)]
        xy = z["xy"][z["offset"][i] : z["offset"][i + 1]].astype(float)
        ray = np.column_stack([(xy - m["beam_centre_px"]) * m["pixel_m"], np.full(len(xy), m["distance_m"])])
        ray /= np.linalg.norm(ray, axis=1)[:, None]
        q = (ray - (0, 0, 1)) / m["wavelength_A"]
        truth = z["truth"][z["truth_offset"][i] : z["truth_offset"][i + 1]]
        sigma = 1.5 * m["pixel_m"] / (m["distance_m"] * m["wavelength_A"])
        lists.append(TrueList(str(name), str(set_name), q, sigma, truth.astype(float)))
    return lists


def a_few_of_each(lists: Sequence[TrueList], count: int) -> list[TrueList]:
    """The first *count* of each cell and set."""
    seen: dict[tuple[str, str], int] = {}
    chosen = []
    for one in lists:
        key = one.cell_name, one.set_name
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= count:
            chosen.append(one)
    return chosen


@dataclass
class Tally:
    """What came of the lists of one set.

    Attributes
    ----------
    n_lists, n_right, n_wrong
        Lists; those whose strongest candidate is a true lattice; those whose strongest is none.
    n_true, n_found, n_false, n_double
        True lattices; those among the candidates; candidates that are no true lattice; true lattices
        that were found twice.
    angle, score
        Of the right ones, degrees; of all accepted.
    """

    n_lists: int = 0
    n_right: int = 0
    n_wrong: int = 0
    n_true: int = 0
    n_found: int = 0
    n_false: int = 0
    n_double: int = 0

    def __post_init__(self) -> None:
        self.angle: list[float] = []
        self.score: list[float] = []

    def add(self, true: TrueList, candidates: Sequence[Candidate]) -> None:
        """Count the candidates of one list, strongest first."""
        which = [nearest(candidate.axes, true.truth) for candidate in candidates]
        found = [number for number, _ in which if number >= 0]
        self.n_lists += 1
        self.n_true += len(true.truth)
        self.n_found += len(set(found))
        self.n_double += len(found) - len(set(found))
        self.n_false += len(which) - len(found)
        if which:
            right = which[0][0] >= 0
            self.n_right += right
            self.n_wrong += not right
            self.score.append(candidates[0].score)
            if right:
                self.angle.append(which[0][1])

    @property
    def median_angle(self) -> float:
        """Degrees; NaN if nothing was right."""
        return float(np.median(self.angle)) if self.angle else float("nan")


def nearest(axes: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[int, float]:
    """Number of the true lattice that a basis describes (-1: none), and degrees between the two."""
    best = -1, 180.0
    for number, true in enumerate(truth):
        same, angle = same_lattice(axes, true)
        if same and angle < best[1]:
            best = number, angle
    return best


def lysozyme() -> UnitCell:
    """The cell used most."""
    return EXPERIMENTS["lyso"].cell
