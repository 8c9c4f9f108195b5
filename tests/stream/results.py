# SPDX-License-Identifier: GPL-3.0-or-later
"""Results made up of random numbers, on a detector of two panels."""

import numpy as np

from gpuidx.model import Crystal, Frame, PeakList, Reflections, Result
from gpuidx.peaks import one_over_d

GEOMETRY = """; two panels in one array
photon_energy = beam_energy eV
clen = detector_distance mm
adu_per_photon = 1
res = 13333.3
data = image
bandwidth = 0.002
p0/min_fs = 0
p0/max_fs = 511
p0/min_ss = 0
p0/max_ss = 255
p0/corner_x = -256
p0/corner_y = -260
p0/fs = x
p0/ss = y
q1a1/min_fs = 0
q1a1/max_fs = 511
q1a1/min_ss = 256
q1a1/max_ss = 511
q1a1/corner_x = -256
q1a1/corner_y = 4
q1a1/fs = +0.999998x +0.002y
q1a1/ss = -0.002x +0.999998y
"""


def make_reflections(rng, n):
    order = np.sort(rng.choice(20**3, n, replace=False))
    hkl = np.stack(np.unravel_index(order, (20, 20, 20)), axis=1) - 10
    return Reflections(
        hkl=hkl.astype(np.int32),
        intensity=rng.normal(0, 3000, n),
        sigma=rng.exponential(50, n),
        peak=rng.exponential(300, n),
        background=rng.normal(3, 2, n),
        fs=rng.uniform(0, 512, n),
        ss=rng.uniform(0, 256, n),
        panel=rng.integers(0, 2, n).astype(np.int32),
        n_saturated=int(rng.integers(5)),
        n_implausible=int(rng.integers(5)),
    )


def make_crystal(rng, reflections):
    return Crystal(
        recip=rng.normal(0, 0.01, (3, 3)) + 0.02 * np.eye(3),
        lattice_type="monoclinic",
        centering="C",
        unique_axis="b",
        score=float(rng.uniform(5, 200)),
        shift=(float(rng.normal(0, 1e-4)), 0.0),
        profile_radius=float(rng.uniform(1e-4, 5e-3)),
        resolution_limit=float(rng.uniform(0.1, 0.6)),
        residuals={"initial_residual": (3.0, 1.0, 1.25, 0.75), "final_residual": (1.5, 0.5, 0.625, 0.375)},
        reflections=reflections,
    )


def make_result(geometry, rng, *, n_peak=30, n_crystal=1, n_reflection=50, image=True, **frame):
    n = n_peak
    clen = 0.1 + 1e-3 * float(rng.integers(9))
    peaks = PeakList(
        fs=rng.uniform(0, 512, n),
        ss=rng.uniform(0, 256, n),
        panel=rng.integers(0, 2, n).astype(np.int32),
        intensity=rng.exponential(1000, n),
    )
    values = {
        "serial": 7,
        "filename": "ZMQdata",
        "event": "//7",
        "image": np.zeros(geometry.slab_shape, np.int32) if image else None,
        "wavelength": 1.3,
        "photon_energy": 9537.24,
        "detector": geometry.detector(clen),
        "headers": {
            "beam_energy": 9537.24,
            "detector_distance": clen * 1e3,
            "frame_number": 12,
            "source": "sim",
        },
    }
    crystals = tuple(
        make_crystal(rng, None if n_reflection is None else make_reflections(rng, n_reflection))
        for _ in range(n_crystal)
    )
    shown = Frame(**(values | frame))
    return Result(
        frame=shown,
        peaks=peaks,
        hit=n > 5,
        inv_d=one_over_d(peaks, shown),
        peak_resolution=float(rng.uniform(0.1, 0.5)) if n else 0.0,
        n_tries=2,
        crystals=crystals,
    )
