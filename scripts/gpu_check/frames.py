# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames to measure with: photon background that falls off from the beam, and spots; made quickly."""

import math
from functools import cache

import numpy as np

from gpu_check.cases import run_options
from gpu_check.plan import ALL, BLANK
from gpuidx.backends.cuda.ring import Ring
from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame
from gpuidx.options import Options, PeakOptions
from gpuidx.simulation.background import PoissonImage
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.units import wavelength_of_energy

PEAK_OPTIONS = PeakOptions(peaks="peakfinder8", threshold=12.0, min_snr=5.0, local_bg_radius=3)
PHOTON_ENERGY, CLEN = 9500.0, 0.1
DISTINCT = 4
N_SPOT, SPOT_SIDE = 100, 7
LOW, HIGH = 1.0, 4.0
"""Photons of the background at the edge and at the beam."""

HIT_EVERY = 5
CELL = parse_cell(LYSOZYME, "gpu-check.cell")
CRYSTAL_CLEN, CRYSTAL_SIDE = 0.15, 2048
"""Camera length, m, for a detector of so many pixels along a side; larger ones have the same."""


class Scene:
    """Four panels about the beam, gpuidx's simulated detector.

    Parameters
    ----------
    side
        Pixels along a side.
    clen
        Camera length of its frames, m.

    Attributes
    ----------
    geometry, masks
        Of a run.
    """

    def __init__(self, side: int, clen: float = CLEN) -> None:
        self.clen = clen
        self.geometry: Geometry = parse_geometry(default_geometry(side), "gpu-check.geom")
        self.masks = Masks(self.geometry, math.inf, False)

    def frame(self, image: np.ndarray) -> Frame:
        """A frame with this image."""
        return Frame(
            serial=1, filename="gpu-check", event="//", image=image,
            wavelength=wavelength_of_energy(PHOTON_ENERGY), photon_energy=PHOTON_ENERGY,
            detector=self.geometry.detector(self.clen),
        )  # fmt: skip


class Images(Scene):
    """Some blanks and some hits, as counts of photons.

    Attributes
    ----------
    blanks, hits : list of (ss, fs) int32
    """

    def __init__(self, side: int) -> None:
        super().__init__(side)
        rng = np.random.default_rng(side)
        along = np.arange(side, dtype=np.float32) - np.float32(side / 2)
        share = along**2 / np.float32(2 * (0.35 * side / 2) ** 2)
        mean = LOW + (HIGH - LOW) * np.exp(-(share[:, None] + share))
        background = PoissonImage(mean.astype(np.float32))
        self.blanks = [background.draw(rng) for _ in range(DISTINCT)]
        self.hits = [_with_spots(blank, rng) for blank in self.blanks]

    def image(self, content: str, slot: int) -> np.ndarray:
        """What the frame in a slot of the ring shows."""
        is_hit = content == ALL or (content != BLANK and slot % HIT_EVERY == 0)
        return (self.hits if is_hit else self.blanks)[slot // HIT_EVERY % DISTINCT]


class CrystalImages(Images):
    """Blanks, and hits that show a crystal: 90 to 130 peaks on a large detector, one lattice.

    The camera length goes with the size, so that a small detector sees the same reflections.  One that is
    larger than `CRYSTAL_SIDE` has background around them: photons a pixel at the edge, more at the beam.
    """

    def __init__(self, side: int, background: tuple[float, float] = (LOW, HIGH)) -> None:
        inner = min(side, CRYSTAL_SIDE)
        clen = CRYSTAL_CLEN * inner / CRYSTAL_SIDE
        Scene.__init__(self, side, clen)
        around = np.random.default_rng(side).poisson(background[0], (side, side)).astype(np.int32)
        self.blanks, self.hits = (
            [_in_the_middle(image, around) for image in _simulated(inner, clen, background, share)]
            for share in (0.0, 1.0)
        )


@cache
def _simulated(
    side: int, clen: float, background: tuple[float, float], hit_fraction: float
) -> list[np.ndarray]:
    settings = FrameSettings(
        clen=clen, photon_energy=PHOTON_ENERGY, background=background, hit_fraction=hit_fraction, seed=side,
    )  # fmt: skip
    simulator = Simulator(parse_geometry(default_geometry(side), "gpu-check.geom"), CELL, settings)
    return [simulator.numbered(number).image for number in range(DISTINCT)]


def _in_the_middle(image: np.ndarray, around: np.ndarray) -> np.ndarray:
    whole, edge = around.copy(), (len(around) - len(image)) // 2
    whole[edge : edge + len(image), edge : edge + len(image)] = image
    return whole


def _with_spots(blank: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = blank.copy()
    along = np.arange(SPOT_SIDE) - SPOT_SIDE // 2
    shape = np.exp(-(along[:, None] ** 2 + along**2) / 1.6)
    for _ in range(N_SPOT):
        ss, fs = rng.integers(0, np.array(image.shape) - SPOT_SIDE)
        image[ss : ss + SPOT_SIDE, fs : fs + SPOT_SIDE] += rng.poisson(rng.uniform(15, 400) * shape).astype(
            np.int32
        )
    return image


def backend_options(n_frame: int, **more: object) -> Options:
    """Options of a backend for batches of *n_frame*."""
    return run_options(PEAK_OPTIONS, gpu_batch=n_frame, **more)


def in_ring(ring: Ring, images: Images, content: str, dtype: str) -> list[Frame]:
    """Fill the ring with images; one frame a slot, at least one."""
    one = images.frame(images.blanks[0])
    shown = [images.image(content, slot) for slot in range(HIT_EVERY * DISTINCT)]  # then all come again
    return ring.frames(one, shown, dtype)
