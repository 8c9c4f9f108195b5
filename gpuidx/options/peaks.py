# SPDX-License-Identifier: GPL-3.0-or-later
"""The peak search."""

import math
from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import PEAKS, numbers

PEAK_METHODS = ("zaef", "peakfinder8", "peakfinder9", "msgpack", "hdf5", "cxi", "none")

PEAKS_SENT = ("msgpack", "hdf5", "cxi")
"""Values of ``--peaks`` that mean lists which come with the frames."""


@dataclass(frozen=True, kw_only=True)
class PeakOptions:
    """Peak search, and what is done with peaks that came with a frame."""

    peaks: str = option(
        "zaef", group=PEAKS, metavar="METHOD", choices=PEAK_METHODS,
        help="peak search: zaef, peakfinder8, peakfinder9, peaks sent along (msgpack, hdf5 or cxi) or none",
    )  # fmt: skip
    peak_radius: tuple[float, ...] | None = option(
        None, group=PEAKS, metavar="R1,R2,R3", type=numbers(3),
        help="radii for zaef and for checking supplied peaks, px; those of --int-radius if not given",
    )  # fmt: skip
    median_filter: int = option(
        0, group=PEAKS, metavar="N",
        help="look for peaks in the image less the median of the square of N pixels to all sides",
    )  # fmt: skip
    filter_noise: bool = option(
        False, group=PEAKS, help="look for peaks in what CrystFEL's noise filter leaves: nothing but borders"
    )
    min_peaks: int = option(0, group=PEAKS, metavar="N", help="fewer peaks are not a hit")
    threshold: float = option(
        800.0, "-t", "--threshold", group=PEAKS, metavar="ADU", help="least pixel value"
    )
    min_squared_gradient: float = option(
        100000.0, "--min-squared-gradient", group=PEAKS, metavar="N",
        hidden=("--min-gradient", "--min-sq-gradient"),
        help="zaef: least squared gradient, ADU² per px²",
    )  # fmt: skip
    min_snr: float = option(5.0, group=PEAKS, metavar="N", help="least signal to noise ratio of a peak")
    min_snr_biggest_pix: float = option(
        7.0, group=PEAKS, metavar="N", help="peakfinder9: least height of a peak's highest pixel, sigma"
    )
    min_snr_peak_pix: float = option(
        6.0, group=PEAKS, metavar="N", help="peakfinder9: least height of a peak's other pixels, sigma"
    )
    min_sig: float = option(
        11.0,
        group=PEAKS,
        metavar="ADU",
        help="peakfinder9: sigma of the background is taken to be at least this",
    )
    min_peak_over_neighbour: float = option(
        -math.inf, group=PEAKS, metavar="ADU", type=float,
        help="peakfinder9: least height of a peak above the pixels around it, to save time",
    )  # fmt: skip
    min_pix_count: int = option(2, group=PEAKS, metavar="N", help="least number of pixels of a peak")
    max_pix_count: int = option(200, group=PEAKS, metavar="N", help="greatest number of pixels of a peak")
    local_bg_radius: int = option(3, group=PEAKS, metavar="N", help="radius for the local background, px")
    min_res: int = option(0, group=PEAKS, metavar="N", help="no peaks within this radius, px")
    max_res: int = option(0, group=PEAKS, metavar="N", help="no peaks beyond this radius, px; 0: no limit")
    use_saturated: bool = option(True, group=PEAKS, off=True, help="drop saturated peaks")
    revalidate: bool = option(True, group=PEAKS, off=True, help="take supplied peaks as they are")
    half_pixel_shift: bool = option(
        True, group=PEAKS, off=True, help="do not add 0.5 to the positions of supplied peaks"
    )
    check_hdf5_snr: bool = option(False, group=PEAKS, help="apply --min-snr to supplied peaks")
    peakfinder8_fast: bool = option(False, group=PEAKS, help="radial statistics from a sample of the pixels")

    @property
    def filters(self) -> bool:
        """Whether the image is changed before it is searched."""
        return self.median_filter > 0 or self.filter_noise

    @property
    def searches(self) -> bool:
        """Whether peaks are looked for in images."""
        return self.peaks in ("zaef", "peakfinder8", "peakfinder9")

    @property
    def device_searches(self) -> bool:
        """Whether a CUDA device can look for the peaks: by peakfinder8, in images as they are."""
        return self.peaks == "peakfinder8" and not self.filters
