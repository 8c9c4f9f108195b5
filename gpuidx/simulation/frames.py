# SPDX-License-Identifier: GPL-3.0-or-later
"""Still frames with known truth: crystals, background, noise, bad pixels, as pixels of the slab.

Nothing here reads or writes files or sockets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell
from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.model import PIXEL_TYPES, Frame, HeaderValue
from gpuidx.simulation.background import PoissonImage, mean_background
from gpuidx.simulation.beam import beam_of, headers_of
from gpuidx.simulation.crystal import Crystals
from gpuidx.simulation.render import add_spots, cut, digitised
from gpuidx.simulation.settings import FrameSettings, check_settings
from gpuidx.simulation.truth import FrameTruth, TrueCrystal
from gpuidx.units import wavelength_of_energy


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """One frame.

    Attributes
    ----------
    image : (ss, fs)
        The slab, ADU, in the dtype of the settings.
    headers
        What the geometry looks up, by name, in the geometry's units.
    truth
        What is in the frame.
    detector
        At this frame's camera length.
    """

    image: NDArray[Any]
    headers: dict[str, HeaderValue]
    truth: FrameTruth
    detector: Detector

    def frame(self, serial: int = 1) -> Frame:
        """The frame as a decoder would give it."""
        image = self.image
        if image.dtype.str[1:] not in PIXEL_TYPES:
            image = image.astype({"u1": "u2", "f8": "f4"}[image.dtype.str[1:]])
        return Frame(
            serial=serial,
            filename="simulated",
            event=f"//{serial}",
            image=image,
            wavelength=self.truth.wavelength,
            photon_energy=self.truth.photon_energy,
            detector=self.detector,
            headers=self.headers,
        )


class Simulator:
    """Makes frames of one geometry, cell and choice of settings.

    Parameters
    ----------
    geometry, cell, settings
        What to simulate.  The background is that of the mean wavelength and camera length.
    orientations : sequence of (abc*, xyz)
        Reciprocal axes in Å⁻¹ for the crystals, taken in turn; random ones if None.

    Attributes
    ----------
    bad : (ss, fs) bool
        Pixels that show ``--bad-value``.
    background : (ss, fs) float32
        Mean photons of each pixel.

    Raises
    ------
    CellFileError, GeometryError, OptionError
        If these do not make a frame.
    """

    def __init__(
        self,
        geometry: Geometry,
        cell: UnitCell,
        settings: FrameSettings,
        orientations: Sequence[NDArray[np.float64]] | None = None,
    ) -> None:
        check_settings(settings)
        self.geometry, self.settings = geometry, settings
        self._orientations = orientations
        self._crystals = Crystals(cell, settings)
        self.beam = beam_of(geometry, settings)
        detector = self.beam.detector(geometry)
        wavelength = wavelength_of_energy(self.beam.photon_energy)
        shape = geometry.slab_shape
        mean = mean_background(detector, shape, wavelength, settings.background, settings.water_ring)
        self._poisson = PoissonImage(mean)
        self.background = self._poisson.mean
        self._rect = detector.rect
        self._gap = np.ones(shape, bool)
        for x0, y0, width, height in detector.rect:
            self._gap[y0 : y0 + height, x0 : x0 + width] = False
        chosen = np.random.default_rng([settings.seed, 0xBAD])
        self.bad: NDArray[np.bool_] = (chosen.random(shape) < settings.bad_fraction) & ~self._gap

    def numbered(self, number: int) -> SimulatedFrame:
        """Frame *number* of the run that the seed stands for; the same whatever was made before."""
        return self.frame(np.random.default_rng([self.settings.seed, number]), number)

    def frame(self, rng: np.random.Generator, number: int = 0) -> SimulatedFrame:
        """A frame of random numbers from *rng*."""
        s = self.settings
        beam = self.beam.varied(rng, s)
        detector = beam.detector(self.geometry)
        wavelength = wavelength_of_energy(beam.photon_energy)
        hit = rng.random() < s.hit_fraction
        crystals = [
            self._crystal(rng, number * s.lattices + i, detector, wavelength)
            for i in range(s.lattices if hit else 0)
        ]
        photons = self._poisson.draw(rng)
        for crystal in crystals:
            add_spots(photons, crystal.spots, detector, s.spot_sigma, rng)
        truth = FrameTruth(
            number=number,
            hit=hit,
            wavelength=wavelength,
            photon_energy=beam.photon_energy,
            clen=beam.clen,
            crystals=tuple(crystals),
        )
        image = self._image(photons, self.geometry.gain(beam.photon_energy), rng)
        return SimulatedFrame(image, headers_of(self.geometry, beam), truth, detector)

    def _crystal(
        self, rng: np.random.Generator, number: int, detector: Detector, wavelength: float
    ) -> TrueCrystal:
        s = self.settings
        if self._orientations is None:
            recip = self._crystals.random(rng)
        else:
            recip = np.asarray(self._orientations[number % len(self._orientations)], np.float64)
        scale = math.exp(s.scale_spread * rng.standard_normal()) if s.scale_spread else 1.0
        spots = self._crystals.spots(recip, detector, wavelength, self.geometry.bandwidth, scale)
        return TrueCrystal(recip, scale, spots)

    def _image(
        self, photons: NDArray[np.int32], gain: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[Any]:
        s = self.settings
        dtype = np.dtype("<" + s.dtype)
        image = digitised(photons, gain, self._rect, s.read_noise, dtype, rng)
        image[self.bad] = cut(np.float64(s.bad_value), dtype)
        image[self._gap] = cut(np.float64(s.gap_value), dtype)
        return image


def simulate_frame(
    geometry: Geometry,
    cell: UnitCell,
    rng: np.random.Generator,
    settings: FrameSettings | None = None,
    recip: NDArray[np.float64] | None = None,
) -> SimulatedFrame:
    """One frame; for more than one a `Simulator` is faster.

    Parameters
    ----------
    geometry, cell
        What to simulate.
    rng
        Source of all random numbers but the choice of bad pixels.
    settings
        The defaults if None.
    recip : (abc*, xyz)
        Å⁻¹; a random orientation if None.

    Raises
    ------
    CellFileError, GeometryError, OptionError
        If these do not make a frame.
    """
    orientations = None if recip is None else [recip]
    return Simulator(geometry, cell, settings or FrameSettings(), orientations).frame(rng)
