# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in simulated frames, and the side file that keeps it: one JSON object a line."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import InputFileError
from gpuidx.simulation.crystal import Spots

FORMAT = "gpuidx truth 1"


@dataclass(frozen=True, slots=True, eq=False)
class TrueCrystal:
    """One crystal of a frame.

    Attributes
    ----------
    recip : (abc*, xyz)
        Å⁻¹.
    scale
        Its intensities are those of the cell times this.
    spots
        Its reflections on the detector.
    """

    recip: NDArray[np.float64]
    scale: float
    spots: Spots


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameTruth:
    """One frame.

    Attributes
    ----------
    number
        From 0; a message or event that shows the frame names it as ``truth_id``.
    hit
        Whether there is a crystal.
    wavelength, photon_energy, clen
        Å, eV, m.
    crystals
        Strength does not order them.
    """

    number: int
    hit: bool
    wavelength: float
    photon_energy: float
    clen: float
    crystals: tuple[TrueCrystal, ...]


class TruthFile:
    """Writes the truth of frame after frame; a context manager.

    Parameters
    ----------
    path
        ``.gz`` at its end compresses.
    description
        What the first line says besides the format: options, for instance.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self._file: IO[str] = (
            gzip.open(path, "wt", 1) if path.suffix == ".gz" else path.open("w")  # noqa: SIM115
        )
        self._line({"format": FORMAT, **description})

    def __enter__(self) -> "TruthFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, truth: FrameTruth) -> None:
        """Add one frame."""
        self._line(
            {
                "number": truth.number,
                "hit": truth.hit,
                "wavelength": truth.wavelength,
                "photon_energy": truth.photon_energy,
                "clen": truth.clen,
                "crystals": [
                    {
                        "recip": crystal.recip.tolist(),
                        "scale": crystal.scale,
                        "hkl": crystal.spots.hkl.tolist(),
                        "panel": crystal.spots.panel.tolist(),
                        "fs": crystal.spots.fs.round(4).tolist(),
                        "ss": crystal.spots.ss.round(4).tolist(),
                        "photons": crystal.spots.photons.round(4).tolist(),
                        "partiality": crystal.spots.partiality.round(6).tolist(),
                        "counts": crystal.spots.counts.tolist(),
                    }
                    for crystal in truth.crystals
                ],
            }
        )

    def _line(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")


def read_truth(path: str | Path) -> Iterator[FrameTruth]:
    """The frames of a truth file, one after the other.

    Raises
    ------
    InputFileError
        If the file is none, or a line cannot be read.
    """
    path = Path(path)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
                if number == 1:
                    if value["format"] != FORMAT:
                        raise InputFileError(str(path), 1, f"the format is not {FORMAT!r}")
                else:
                    yield _frame(value)
            except (KeyError, TypeError, ValueError) as error:
                raise InputFileError(str(path), number, f"no truth of a frame ({error!r})") from error


def _frame(value: dict[str, Any]) -> FrameTruth:
    crystals = value.pop("crystals")
    return FrameTruth(crystals=tuple(_crystal(c) for c in crystals), **value)


def _crystal(value: dict[str, Any]) -> TrueCrystal:
    recip, scale = np.array(value.pop("recip"), float), value.pop("scale")
    types = {"hkl": np.int32, "panel": np.int32, "counts": np.int64}
    spots: dict[str, Any] = {k: np.array(v, types.get(k, np.float64)) for k, v in value.items()}
    spots["hkl"] = spots["hkl"].reshape(-1, 3)
    return TrueCrystal(recip, scale, Spots(**spots))
