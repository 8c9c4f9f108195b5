# SPDX-License-Identifier: GPL-3.0-or-later
"""CrystFEL's results for real frames, and how ours are compared with them."""

import gzip
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry import Detector

PEAK_OPTIONS = {
    "cspad_thermolysin": "--threshold=200 --min-snr=5 --min-pix-count=2 --local-bg-radius=3 --max-res=1200",
    "thaumatin_grid": "--threshold=12 --min-snr=4 --min-pix-count=2 --local-bg-radius=4 --max-res=1200",
    "rayonix": "--threshold=100 --min-snr=6 --min-pix-count=2 --local-bg-radius=4 --max-res=900",
    "sim_lysozyme_ed": "--threshold=30 --min-snr=5 --min-pix-count=2 --local-bg-radius=3 --max-res=700",
    "timepix512": "--threshold=200 --min-snr=5 --min-pix-count=2 --local-bg-radius=3 --max-res=400",
    "jungfrau_module": "--threshold=12 --min-snr=5 --min-pix-count=2 --local-bg-radius=3 --max-res=700",
}


@dataclass(frozen=True, eq=False)
class ReferenceCrystal:
    """A crystal that CrystFEL found.

    Attributes
    ----------
    recip : (abc*, xyz)
        Å⁻¹.
    lengths : (3,)
        Å.
    intensity
        By h, k, l of its setting; those reflections that the reference keeps.
    """

    recip: NDArray[np.float64]
    lengths: NDArray[np.float64]
    intensity: dict[tuple[int, int, int], float]


def load(folder: Path, name: str) -> dict[str, Any]:
    """A file of the reference."""
    with gzip.open(folder / "crystfel_reference" / f"{name}.json.gz", "rt") as file:
        value: dict[str, Any] = json.load(file)
    return value


def crystal_of(frame: dict[str, Any]) -> ReferenceCrystal | None:
    """The crystal of a frame of the reference."""
    if not frame["crystals"]:
        return None
    crystal = frame["crystals"][0]
    recip = np.array([crystal[name] for name in ("astar", "bstar", "cstar")]) / 10
    intensity = {(int(r[0]), int(r[1]), int(r[2])): float(r[3]) for r in crystal["reflections"]}
    return ReferenceCrystal(recip, 10 * np.array(crystal["cell"][:3]), intensity)


SETTINGS = np.array(list(itertools.product((-1, 0, 1), repeat=9)), float).reshape(-1, 3, 3)
SETTINGS = SETTINGS[np.abs(np.abs(np.linalg.det(SETTINGS)) - 1) < 1e-6]


def best_setting(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The integer matrix M with M·ours closest to theirs, and the rotation between them, degrees."""
    parts = np.einsum("nij,jk->nik", SETTINGS, ours)
    M = SETTINGS[np.argmin(np.linalg.norm(parts - theirs, axis=(1, 2)))]
    u, _, vt = np.linalg.svd((M @ ours).T @ theirs)
    rotation = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return M, float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def correlation(hkl: NDArray[np.int32], intensity: NDArray[np.float64], ours: NDArray[np.float64],
                theirs: ReferenceCrystal) -> tuple[float, int]:  # fmt: skip
    """Correlation of the intensities of common reflections, and their number."""
    M, _ = best_setting(ours, theirs.recip)
    renamed = np.rint(hkl @ np.linalg.inv(M)).astype(int)
    pairs = [
        (value, theirs.intensity[key])
        for key, value in zip(map(tuple, renamed), intensity, strict=True)
        if key in theirs.intensity
    ]
    mine, reference = np.array(pairs).T
    return float(np.corrcoef(mine, reference)[0, 1]), len(pairs)


def lab(detector: Detector, fs: NDArray[np.float64], ss: NDArray[np.float64],
        panel: NDArray[np.int32]) -> NDArray[np.float64]:  # fmt: skip
    """Positions in the lab frame, x and y in pixels."""
    place = detector.corner[panel] + fs[:, None] * detector.fs[panel] + ss[:, None] * detector.ss[panel]
    return place[:, :2]


def share_near(peaks: NDArray[np.float64], spots: NDArray[np.float64], radius: float = 3.0) -> float:
    """Share of the peaks within *radius* px of a spot, in percent."""
    distance = np.linalg.norm(peaks[:, None] - spots[None], axis=2)
    return 100 * float(np.mean(distance.min(axis=1) < radius))


def shares(peaks: NDArray[np.float64], spots: NDArray[np.float64]) -> tuple[float, float]:
    """That share, and the same for the peaks turned by 180 degrees about the beam (chance)."""
    return share_near(peaks, spots), share_near(-peaks, spots)


def panel_numbers(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int32]:
    """Panel names as indices."""
    index = {name: number for number, name in enumerate(known)}
    return np.array([index[name] for name in names], np.int32)
