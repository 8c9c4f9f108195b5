# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for the tests of the peak search, made from a number by whole-number arithmetic only.

No random generator of NumPy is used and no rounded function but division and square root, so a case stays
the same for ever, and with it the frozen peak lists of ``tests/data/peakfinder8_*.txt.gz``.
"""

from dataclasses import dataclass

import numpy as np

from gpuidx.geometry.detector import Detector, Geometry, Lookup, Panel
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import Frame
from gpuidx.options import PeakOptions
from gpuidx.units import wavelength_of_energy

PHOTON_ENERGY = 9500.0
CLEN = 0.08
PITCH = 75e-6
TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))
BLOCK = 1 << 15
DTYPES = ("u2", "i2", "u4", "i4", "f4")


class Numbers:
    """Endless whole numbers from a seed: splitmix64 (Steele, Lea & Flood 2014)."""

    def __init__(self, seed: int) -> None:
        self.state = (seed + 1) * 0xD1342543DE82EF95 % 2**64

    def word(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def between(self, least: int, most: int) -> int:
        return least + self.word() % (most - least + 1)

    def one_of(self, choices):
        return choices[self.word() % len(choices)]

    def chance(self, percent: int) -> bool:
        return self.word() % 100 < percent

    def words(self, n: int) -> np.ndarray:
        """Many at once; uint64."""
        words, start = np.empty(n, np.uint64), np.uint64(self.word())
        for first in range(0, n, BLOCK):  # in the cache, block by block
            z = np.arange(first + 1, min(first + BLOCK, n) + 1, dtype=np.uint64)
            z *= np.uint64(0x9E3779B97F4A7C15)
            z += start
            z ^= z >> np.uint64(30)
            z *= np.uint64(0xBF58476D1CE4E5B9)
            z ^= z >> np.uint64(27)
            z *= np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
            words[first : first + BLOCK] = z
        return words


class FixedMasks:
    """Stands for `Masks`: one array of bad pixels, whatever the frame."""

    def __init__(
        self, geometry: Geometry, bad: np.ndarray | None = None, rules: ValueRules | None = None
    ) -> None:
        self.bad = np.zeros(geometry.slab_shape, bool) if bad is None else bad
        self.rules = rules or ValueRules()
        self.saturation = np.array([panel.max_adu for panel in geometry.panels])
        self.saturation_map: np.ndarray | None = None

    def at(self, detector: Detector, wavelength: float) -> np.ndarray:
        return self.bad

    def key(self, detector: Detector, wavelength: float) -> tuple[bytes, float]:
        return b"", 0.0


@dataclass
class Case:
    geometry: Geometry
    frame: Frame
    options: PeakOptions
    masks: FixedMasks

    @property
    def image(self) -> np.ndarray:
        assert self.frame.image is not None
        return self.frame.image


def make_panel(
    name: str, box: tuple[int, int, int, int], corner: tuple[float, float],
    fs: tuple[float, float] = (1.0, 0.0), ss: tuple[float, float] = (0.0, 1.0), max_adu: float = np.inf,
) -> Panel:  # fmt: skip
    x0, y0, width, height = box
    return Panel(
        name=name, min_fs=x0, max_fs=x0 + width - 1, min_ss=y0, max_ss=y0 + height - 1,
        corner_x=corner[0], corner_y=corner[1], fs=(*fs, 0.0), ss=(*ss, 0.0), res=1 / PITCH, coffset=0.0,
        adu_per_photon=1.0, adu_per_ev=None, max_adu=max_adu, data="/data", dims=("ss", "fs"),
        mask_edge_pixels=0, masks=(), flags=(), saturation_map=None, saturation_map_file=None, no_index=False,
        slab_x=x0, slab_y=y0,
    )  # fmt: skip


def make_geometry(panels: list[Panel], shape: tuple[int, int]) -> Geometry:
    clen = Lookup(CLEN, None, "m", 1)
    energy = Lookup(PHOTON_ENERGY, None, "eV", 1)
    return Geometry(
        file="case.geom", text="", panels=tuple(panels), bad_regions=(), groups={}, wavelength=energy,
        wavelength_kind="photon_energy", clen=clen, shift_x=None, shift_y=None, bandwidth=1e-8,
        peak_list=None, peak_list_type="", arrays=(), slab_shape=shape,
    )  # fmt: skip


def make_frame(geometry: Geometry, image: np.ndarray | None, shift_x: float = 0.0, **more) -> Frame:
    return Frame(
        serial=1, filename="case", event="//", image=image, wavelength=wavelength_of_energy(PHOTON_ENERGY),
        photon_energy=PHOTON_ENERGY, detector=geometry.detector(CLEN, shift_x), **more,
    )  # fmt: skip


def small_case(number: int) -> Case:
    """One to four turned panels of some thousand pixels, with everything varied."""
    numbers = Numbers(number)
    panels, height, width = [], 0, numbers.between(40, 130)
    max_adu = float(numbers.one_of((50, 300, 5000)))
    for k in range(numbers.between(1, 4)):
        n_fs, n_ss = numbers.between(20, width), numbers.between(20, 90)
        cos, sin = numbers.one_of(TURNS)
        tilt = numbers.between(-80, 80) / 1000
        fs = (cos - sin * tilt, sin + cos * tilt)
        ss = (-sin - cos * tilt, cos - sin * tilt)
        corner = (numbers.between(-9000, 4000) / 100, numbers.between(-9000, 4000) / 100)
        box = (numbers.between(0, width - n_fs), height, n_fs, n_ss)
        panels.append(make_panel(f"p{k}", box, corner, fs, ss, max_adu))
        height += n_ss + numbers.between(0, 2)
    geometry = make_geometry(panels, (height, width))
    mean = 2 ** numbers.between(-6, 4)
    counts = make_counts(numbers, geometry, mean, numbers.between(20, 200), 64)
    add_spots(numbers, geometry, counts, numbers.between(2, 30), numbers.one_of((60, 400, 3000, 40000)))
    add_shadows(numbers, geometry, counts, 30)
    if numbers.chance(15):
        counts *= numbers.between(2, 300)
    image = as_pixels(numbers, counts, numbers.one_of(DTYPES))
    bad = numbers.words(counts.size).reshape(counts.shape) % np.uint64(100) < numbers.one_of((0, 0, 1, 20))
    limits = (numbers.between(0, 20), numbers.between(60, 200)) if numbers.chance(40) else (0, 0)
    options = PeakOptions(
        peaks="peakfinder8",
        min_snr=numbers.one_of((2.0, 3.0, 4.0, 5.0, 6.5)),
        threshold=float(numbers.one_of((-50, 0, 1, 2, 8, 20, 60, 2 * mean))),
        min_pix_count=numbers.between(1, 3),
        max_pix_count=numbers.one_of((9, 30, 200)),
        local_bg_radius=numbers.between(1, 5),
        min_res=limits[0],
        max_res=limits[1],
        use_saturated=numbers.chance(80),
        peakfinder8_fast=numbers.chance(12),
    )
    masks = FixedMasks(geometry, bad, make_rules(numbers, image))
    return Case(geometry, make_frame(geometry, image), options, masks)


def large_case(number: int) -> Case:
    """A detector of four megapixels: photon counts, wide ranges, fractions and negative values in turn."""
    numbers = Numbers(1000 + number)
    shape = (2048, 2048)
    centre = (-1024 + numbers.between(-3000, 3000) / 100, -1024 + numbers.between(-3000, 3000) / 100)
    halves = number % 3 == 2  # two panels side by side, with a gap and slightly turned
    if halves:
        left = make_panel("left", (0, 0, 1024, 2048), centre, (0.9998, 0.02), (-0.02, 0.9998))
        right = make_panel("right", (1024, 0, 1024, 2048), (centre[0] + 1036.5, centre[1]))
        geometry = make_geometry([left, right], shape)
    else:
        geometry = make_geometry([make_panel("p0", (0, 0, 2048, 2048), centre, max_adu=20000.0)], shape)
    counts = make_counts(numbers, geometry, (1, 2, 4, 1 / 32)[number % 4], 600, 16)
    add_spots(numbers, geometry, counts, 150, 2000)
    bad = numbers.words(counts.size).reshape(shape) % np.uint64(10000) < 2
    bad[512:540], bad[1500:1537] = True, True
    kind = ("i4", "u2", "f4", "i2", "i4", "u4")[number % 6]
    if number in (4, 9):
        counts = counts * 170 + (numbers.words(counts.size).reshape(shape) % np.uint64(170)).astype(np.int64)
    image = as_pixels(numbers, counts, kind)
    options = PeakOptions(
        peaks="peakfinder8",
        threshold=10.0 if number not in (4, 9) else 500.0,
        min_snr=5.0,
        local_bg_radius=3 + number % 2,
        max_res=0 if number % 2 else 1100,
        use_saturated=number != 6,
        peakfinder8_fast=number == 7,
    )
    return Case(geometry, make_frame(geometry, image), options, FixedMasks(geometry, bad))


def make_counts(numbers: Numbers, geometry: Geometry, mean: float, width: int, n_trial: int) -> np.ndarray:
    """Binomial counts that fall off from the beam: mean·w²/(w² + r²) and a little, of *n_trial* trials."""
    share = np.zeros(geometry.slab_shape, np.uint16)
    top = int(mean * 2**16) // n_trial
    for panel in geometry.panels:
        part = share[panel.slab_y :, panel.slab_x :][: panel.height, : panel.width]
        fs = np.arange(panel.width)
        for ss in range(panel.height):
            x = (panel.corner_x + fs * panel.fs[0] + ss * panel.ss[0]).astype(np.int64)
            y = (panel.corner_y + fs * panel.fs[1] + ss * panel.ss[1]).astype(np.int64)
            part[ss] = np.minimum(top * width**2 // (width**2 + x**2 + y**2) + top // 16, 2**16 - 1)
    counts = np.zeros(share.size, np.uint32)
    for _ in range(n_trial // 4):
        four = numbers.words(share.size).view(np.uint16).reshape(-1, 4)
        hits = (four < share.reshape(-1, 1)).view(np.uint32).ravel()
        counts += hits * np.uint32(0x01010101) >> np.uint32(24)  # the sum of four bytes
    return counts.reshape(share.shape).astype(np.int64)


def add_spots(numbers: Numbers, geometry: Geometry, counts: np.ndarray, n_spot: int, height: int) -> None:
    """Spots of half-width 0.6 px and of all heights, most of them low, some across a panel's border."""
    for panel in geometry.panels:
        part = counts[panel.slab_y :, panel.slab_x :][: panel.height, : panel.width]
        for _ in range(n_spot):
            centre_fs, centre_ss = numbers.between(0, 8 * panel.width), numbers.between(0, 8 * panel.height)
            top = height * numbers.between(1, 100) * numbers.between(1, 100) // 10000
            fs0, ss0 = max(centre_fs // 8 - 4, 0), max(centre_ss // 8 - 4, 0)
            window = part[ss0 : ss0 + 9, fs0 : fs0 + 9]
            ss, fs = np.mgrid[ss0 : ss0 + window.shape[0], fs0 : fs0 + window.shape[1]]
            distance = (8 * fs + 4 - centre_fs) ** 2 + (8 * ss + 4 - centre_ss) ** 2
            spot = top * 4096 // (64 + distance) ** 2
            noise = np.floor(np.sqrt(spot.astype(float))).astype(np.int64)
            shake = (numbers.words(spot.size).reshape(spot.shape) >> np.uint64(8)).astype(np.int64)
            window += spot + shake % (2 * noise + 1) - noise


def add_shadows(numbers: Numbers, geometry: Geometry, counts: np.ndarray, percent: int) -> None:
    """Nothing behind a straight edge."""
    for panel in geometry.panels:
        if numbers.chance(percent):
            counts[panel.slab_y :, panel.slab_x :][: panel.height, : numbers.between(1, panel.width)] = 0


def as_pixels(numbers: Numbers, counts: np.ndarray, dtype: str) -> np.ndarray:
    """Counts as a detector of that type gives them: cut to its range, some lowered, in eighths for f4."""
    if dtype in ("i2", "i4") and numbers.chance(25):
        counts = counts - numbers.between(0, int(counts.max()) // 50 + 2)
    if dtype == "f4":
        return ((counts * numbers.between(1, 24) - numbers.between(0, 40)).astype(np.float32)) / np.float32(8)
    info = np.iinfo(dtype)
    return np.clip(counts, info.min, info.max).astype(dtype)


def make_rules(numbers: Numbers, image: np.ndarray) -> ValueRules:
    """No rule for most cases; else above the brightest few, or below zero and equal to some pixel."""
    kind = numbers.between(0, 9)
    if kind < 2:
        brightest = np.sort(image, axis=None)[-1 - image.size // 1000]
        return ValueRules(morethan=float(int(brightest)))
    if kind < 4:
        return ValueRules(lessthan=0.0, equal=float(np.rint(image.flat[0])))
    return ValueRules()
