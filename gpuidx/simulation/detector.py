# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector and a cell for those who have no files at hand: text as in .geom and .cell files."""

from typing import NamedTuple

from gpuidx.errors import OptionError

PIXELS_PER_METRE = 13333.3
"""75 µm pixels."""

GAP = 8
"""Pixels between the four panels."""

MASK_PATH = "/mask"
"""Where a mask lies in its file."""

LYSOZYME = """CrystFEL unit cell file version 1.0

lattice_type = tetragonal
unique_axis = c
centering = P
a = 79.10 A
b = 79.10 A
c = 37.90 A
al = 90.00 deg
be = 90.00 deg
ga = 90.00 deg
"""
"""Hen egg-white lysozyme."""


class Names(NamedTuple):
    """How a geometry looks up what a format has.

    Attributes
    ----------
    beam, clen
        Statement of the photon energy or wavelength; header and unit of the camera length.
    data
        Name of the pixels, which means nothing in formats with one image.
    more
        Further lines.
    """

    beam: str
    clen: str
    data: str = "data"
    more: str = ""


_DECTRIS_ENERGY = "photon_energy = incident_energy eV"

NAMES = {
    "msgpack": Names(
        "photon_energy = beam_energy eV", "detector_distance mm", "detector_data", "peak_list = peak_list"
    ),
    "hdf5": Names(
        "photon_energy = /entry/beam_energy eV", "/entry/detector_distance mm", "/entry/data",
        "dim0 = %\ndim1 = ss\ndim2 = fs",
    ),
    "seedee": Names("photon_energy = beam/energy eV", "detector/distance m"),
    "cbf": Names("wavelength = Wavelength A", "Detector_distance m"),
    "dectris-v1": Names("photon_energy = photon_energy eV", "detector_distance m"),
    "dectris-v2": Names(_DECTRIS_ENERGY, "detector_translation/2 m", "threshold_1"),
    "jungfraujoch": Names(_DECTRIS_ENERGY, "detector_distance m"),
    "lclstreamer": Names("photon_energy = photon_energy eV", "detector/distance m"),
}  # fmt: skip
"""For each format that frames are simulated in; ``hdf5`` for files of many frames, too."""

_TOP = """; Four square panels about the beam, each turned by a little, as real ones are.
adu_per_photon = 1
res = {res}
{beam}
clen = {clen}
data = {data}
{more}
badcentre/min_x = -{hole}
badcentre/max_x = {hole}
badcentre/min_y = -{hole}
badcentre/max_y = {hole}
"""

_PANEL = """
{name}/min_fs = {min_fs}
{name}/max_fs = {max_fs}
{name}/min_ss = {min_ss}
{name}/max_ss = {max_ss}
{name}/corner_x = {x}
{name}/corner_y = {y}
{name}/fs = {fs}
{name}/ss = {ss}
"""

_TURNS = ((0.0012, 0.0), (-0.0008, 0.002), (0.0004, -0.003), (-0.0015, 0.001))
"""Of each panel: rotation about the beam, and tilt of its fast axis out of the plane, rad."""


def check_size(size: int) -> None:
    """See that the built-in detector can have so many pixels along a side.

    Raises
    ------
    OptionError
        If it cannot.
    """
    if size < 64 or size % 2:
        raise OptionError(f"--size is {size}; it is an even number, at least 64")


def default_geometry(n: int = 1024, form: str = "msgpack", mask: str | None = None) -> str:
    """Text of a geometry file: a detector of *n* × *n* pixels of 75 µm in four panels.

    Parameters
    ----------
    n
        Pixels along a side of the data array, even.
    form
        One of `NAMES`.
    mask
        File of a pixel mask, 1 = bad, as `gpuidx.simulation.files.write_mask` makes it; none if None.
    """
    half = n // 2
    names = NAMES[form]
    more = names.more
    if mask is not None:
        more += f"\nmask0_file = {mask}\nmask0_data = {MASK_PATH}\nmask0_badbits = 1"
    text = _TOP.format(
        res=PIXELS_PER_METRE, beam=names.beam, clen=names.clen, data=names.data, more=more, hole=n // 64
    )
    for number, (turn, tilt) in enumerate(_TURNS):
        column, row = number % 2, number // 2
        text += _PANEL.format(
            name=f"p{number}",
            min_fs=column * half,
            max_fs=column * half + half - 1,
            min_ss=row * half,
            max_ss=row * half + half - 1,
            x=GAP / 2 if column else -half - GAP / 2,
            y=GAP / 2 if row else -half - GAP / 2,
            fs=f"{1 - turn**2 / 2 - tilt**2 / 2:+.7f}x {turn:+.7f}y {tilt:+.7f}z",
            ss=f"{-turn:+.7f}x {1 - turn**2 / 2:+.7f}y",
        )
    return text
