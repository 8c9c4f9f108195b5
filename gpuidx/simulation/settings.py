# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be chosen for simulated frames: options of ``gpuidx simulate`` and settings for tests.

argparse-dataclass reads the field types at run time, so there is no `from __future__ import annotations`.
"""

from dataclasses import dataclass
from typing import Optional

from gpuidx.arguments import option
from gpuidx.errors import OptionError
from gpuidx.options.values import numbers

CRYSTALS = "Crystals"
DETECTOR = "Beam and detector"
FRAMES = "Frames"
WRITING = "Writing a file"


@dataclass(frozen=True, kw_only=True)
class CrystalSettings:
    """Crystals and their spots."""

    lattices: int = option(1, group=CRYSTALS, metavar="N", help="lattices in each frame that is a hit")
    orientations: Optional[str] = option(  # noqa: UP045
        None, group=CRYSTALS, metavar="FILE",
        help="text file, nine numbers a line: a* b* c* in Å⁻¹; taken in turn instead of random ones",
    )  # fmt: skip
    profile_radius: float = option(
        0.0008, group=CRYSTALS, metavar="R", help="size of a reciprocal-lattice point, Å⁻¹"
    )
    profile: str = option(
        "gaussian", group=CRYSTALS, metavar="NAME", choices=("gaussian", "sphere"),
        help="intensity across a reciprocal-lattice point: gaussian (sigma = R) or sphere (radius = R)",
    )  # fmt: skip
    photons: float = option(
        200.0, group=CRYSTALS, metavar="N",
        help="mean photons of a whole reflection at low angle; sets the number of visible spots",
    )  # fmt: skip
    b_factor: float = option(20.0, group=CRYSTALS, metavar="B", help="fall of intensity with angle, Å²")
    resolution: float = option(0.0, group=CRYSTALS, metavar="A", help="no spots beyond; 0: no limit")
    scale_spread: float = option(
        0.0, group=CRYSTALS, metavar="S", help="spread of the crystals' sizes, sigma of ln(scale)"
    )
    cell_spread: float = option(
        0.0, group=CRYSTALS, metavar="S", help="relative spread of the cell lengths, one factor for all three"
    )
    symmetry: str = option(
        "lattice", group=CRYSTALS, metavar="NAME", choices=("lattice", "friedel"),
        help="equal intensities under the rotations of the lattice, or of Friedel mates only",
    )  # fmt: skip
    structure_seed: int = option(1, group=CRYSTALS, metavar="N", help="chooses the intensities")


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """Spot shape, background, noise, bad pixels; the beam."""

    spot_sigma: float = option(0.8, group=DETECTOR, metavar="PX", help="sigma of a spot, pixels")
    background: tuple[float, ...] = option(
        (1.0, 4.0), group=DETECTOR, metavar="LOW,HIGH", type=numbers(2),
        help="mean background, photons a pixel: at the edge of the detector, and at the beam",
    )  # fmt: skip
    water_ring: float = option(
        0.0, group=DETECTOR, metavar="N", help="mean photons a pixel on top of a ring at 3.2 Å"
    )
    read_noise: float = option(0.0, group=DETECTOR, metavar="ADU", help="sigma of the noise of each pixel")
    dtype: str = option(
        "i4", group=DETECTOR, metavar="TYPE", choices=("u1", "i2", "u2", "i4", "u4", "f4", "f8"),
        help="pixel type; photons times the gain of the geometry, cut to its range",
    )  # fmt: skip
    bad_fraction: float = option(0.0, group=DETECTOR, metavar="F", help="share of pixels that are bad")
    bad_value: float = option(-1.0, group=DETECTOR, metavar="ADU", help="what bad pixels show")
    gap_value: float = option(-1.0, group=DETECTOR, metavar="ADU", help="what is shown outside all panels")
    photon_energy: float = option(
        9500.0, group=DETECTOR, metavar="EV", help="photon energy, if the geometry looks it up"
    )
    clen: float = option(
        0.0,
        group=DETECTOR,
        metavar="M",
        help="camera length, if the geometry looks it up; 0: 2.2 Å at the edge",
    )
    energy_spread: float = option(
        0.0, group=DETECTOR, metavar="S", help="relative spread of the photon energy, told in the header"
    )
    clen_spread: float = option(
        0.0, group=DETECTOR, metavar="M", help="spread of the camera length, told in the header"
    )


@dataclass(frozen=True, kw_only=True)
class FrameSettings(DetectorSettings, CrystalSettings):
    """All that one frame depends on."""

    hit_fraction: float = option(1.0, group=FRAMES, metavar="F", help="share of frames with a crystal")
    seed: int = option(0, group=FRAMES, metavar="N", help="chooses all random numbers")


def check_settings(s: FrameSettings) -> None:
    """Refuse values that make no frame.

    Raises
    ------
    OptionError
        Naming the option.
    """
    for name in ("profile_radius", "spot_sigma", "photon_energy"):
        if not getattr(s, name) > 0:
            raise OptionError(f"--{name.replace('_', '-')} is {getattr(s, name):g}; it must be above 0")
    for name in (
        "photons", "b_factor", "resolution", "scale_spread", "cell_spread", "water_ring", "read_noise",
        "clen", "energy_spread", "clen_spread", "seed", "structure_seed",
    ):  # fmt: skip
        if not getattr(s, name) >= 0:
            raise OptionError(f"--{name.replace('_', '-')} is {getattr(s, name):g}; it must not be negative")
    for name in ("hit_fraction", "bad_fraction"):
        if not 0 <= getattr(s, name) <= 1:
            raise OptionError(f"--{name.replace('_', '-')} is {getattr(s, name):g}; it is between 0 and 1")
    if not 1 <= s.lattices <= 20:
        raise OptionError(f"--lattices is {s.lattices}; it is between 1 and 20")
    if not all(0 <= value <= 1000 for value in s.background) or s.water_ring > 1000:
        raise OptionError("--background and --water-ring are photons a pixel, between 0 and 1000")
