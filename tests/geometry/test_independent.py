# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions, scattering vectors and masks, computed once more from the text of the file in the plainest way.

Nothing of gpuidx takes part in what is expected; only what loads is tested, so nothing is checked here.
"""

import re
import zlib

import numpy as np
import pytest
from geometry.crystfel_cases import CASES
from geometry.texts import read

from gpuidx.errors import GeometryError
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks

PRECISION = 1e-6
WAVELENGTH = 1.3
HIGHRES = 2.1
CLEN = 0.0987
SHIFT = (0.0013, -0.0021)
MOST = 60_000
"""Pixels of a file that are looked at."""

LARGE = 5_000_000
"""Pixels of a slab from which on no resolution limit is drawn: that takes a second."""

OLD = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}

BADS = """
badbox/min_x = -60.5
badbox/max_x = 33
badbox/min_y = -45
badbox/max_y = 61.25
badspot/min_fs = 20
badspot/max_fs = 31
badspot/min_ss = 10
badspot/max_ss = 12
badspot/panel = {panel}
"""

TOP = """mask_edge_pixels = 3
mask0_data = /m
mask0_file = one.h5
mask0_goodbits = 0x5
mask2_data = /n
mask2_file = two.h5
mask2_badbits = 18
"""


def plain(text):
    """Fields of panels and of bad regions by name, as text; defaults are those above a panel."""
    above, panels, bad = (
        {"mask_edge_pixels": "0", "no_index": "0", "coffset": "0", "dim0": "ss", "dim1": "fs"},
        {},
        {},
    )
    for line in re.split("[\r\n]+", text):
        key, equals, value = (part.strip() for part in line.partition(";")[0].partition("="))
        if not equals:
            continue
        owner, slash, field = key.partition("/")
        field = OLD.get(field or owner, field or owner) if slash else OLD.get(key, key)
        if not slash:
            above[field] = value
        elif owner.startswith("bad"):
            bad.setdefault(owner, {})[field] = value
        else:
            panels.setdefault(owner, dict(above))[field] = value
    return panels, bad


def atof(text):
    """What C's atof makes of a text: 0 if it begins with no number."""
    found = re.match(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    return float(found[0]) if found else 0.0


def whole(text):
    """An integer, perhaps written with a point."""
    return int(atof(text))


def vector(text):
    """x, y, z of a direction."""
    found = np.zeros(3)
    for sign, size, axis in re.findall(r"([+-]?)([0-9.]*)([xyz])", text.replace(" ", "")):
        found["xyz".index(axis)] += (-1 if sign == "-" else 1) * float(size or 1)
    return found


def metres(panel, fs, ss, clen, shift):
    """Laboratory positions of pixel corners, m."""
    x, y = atof(panel["corner_x"]), atof(panel["corner_y"])
    pixels = np.array([x, y, 0.0]) + np.outer(fs, vector(panel["fs"])) + np.outer(ss, vector(panel["ss"]))
    return pixels / atof(panel["res"]) + (*shift, clen + atof(panel["coffset"]))


def scattering(place, wavelength):
    """Scattering vectors, without the difference of two large numbers."""
    length = np.linalg.norm(place, axis=1)
    across = (place[:, 0] ** 2 + place[:, 1] ** 2) / (length * (length + place[:, 2]))
    return np.stack([place[:, 0] / length, place[:, 1] / length, -across], axis=1) / wavelength


def data_set(panels, file, data):
    """A mask of random bits, large enough for all panels."""
    shape = []
    dims = [[p[f"dim{i}"] for i in range(8) if f"dim{i}" in p] for p in panels.values()]
    for number in range(max(map(len, dims))):
        sizes = [1]
        for panel, dim in zip(panels.values(), dims, strict=True):
            if dim[number] in ("fs", "ss"):
                sizes.append(whole(panel[f"max_{dim[number]}"]) + 1)
            elif dim[number] != "%":
                sizes.append(int(dim[number]) + 1)
        shape.append(max(sizes))
    return np.random.default_rng(zlib.crc32(f"{file} {data}".encode())).integers(0, 32, shape, np.uint8)


def bad_pixels(name, panel, bad, fs, ss, place, q, masks, highres):
    """Whether pixels are bad, and whether that is too close to a limit to be sure."""
    width = whole(panel["max_fs"]) - whole(panel["min_fs"]) + 1
    height = whole(panel["max_ss"]) - whole(panel["min_ss"]) + 1
    if panel["no_index"].lower() in ("1", "true"):
        return np.ones(len(fs), bool), np.zeros(len(fs), bool)
    edge = whole(panel["mask_edge_pixels"])
    found = (fs < edge) | (fs >= width - edge) | (ss < edge) | (ss >= height - edge)
    inv_d = np.linalg.norm(q, axis=1)
    found |= inv_d >= 1 / highres if highres < np.inf else False
    unsure = np.abs(inv_d * highres - 1) < PRECISION
    raw = {"fs": fs + whole(panel["min_fs"]), "ss": ss + whole(panel["min_ss"])}
    lab = {axis: place[:, i] * atof(panel["res"]) for i, axis in enumerate("xy")}
    for region in bad.values():
        axes, value = ("xy", lab) if "min_x" in region else (("fs", "ss"), raw)
        if axes != "xy" and region.get("panel", name) != name:
            continue
        inside = np.ones(len(fs), bool)
        for axis in axes:
            low, high = (atof(region[f"{end}_{axis}"]) for end in ("min", "max"))
            if axes == "xy":
                inside &= (value[axis] > low) & (value[axis] < high)
                unsure |= (np.abs(value[axis] - low) < PRECISION) | (np.abs(value[axis] - high) < PRECISION)
            else:
                inside &= (value[axis] >= low) & (value[axis] <= high)
        found |= inside
    dims = [panel[f"dim{i}"] for i in range(8) if f"dim{i}" in panel]
    for number in range(8):
        if f"mask{number}_file" in panel:
            array = masks(panel[f"mask{number}_file"], panel[f"mask{number}_data"])
            at = tuple(raw[d] if d in raw else 0 if d == "%" else int(d) for d in dims)
            bits = array[at].astype(np.int64)
            good, wrong = (
                int(float.fromhex(t) if t.startswith("0x") else float(t)) & 0xFFFFFFFF
                for t in (panel.get(f"mask{number}_{kind}bits", "0") for kind in ("good", "bad"))
            )
            found |= ((bits & good) != good) | ((bits & wrong) != 0)
    return found, unsure


def compare(text, geometry, clen, shift):
    """Compare random pixels, and the corners, of all panels; gives how many were bad and were not."""
    panels, bad = plain(text)
    assert list(panels) == [panel.name for panel in geometry.panels]
    detector = geometry.detector(clen, *shift)

    kept = {}

    def masks(file, data):
        if (file, data) not in kept:
            kept[file, data] = data_set(panels, file, data)
        return kept[file, data]

    highres = HIGHRES if np.prod(geometry.slab_shape) < LARGE else np.inf
    drawn = Masks(geometry, highres, reader=masks).at(detector, WAVELENGTH)
    rng = np.random.default_rng(4)
    count = np.zeros(2, int)
    for i, (name, panel) in enumerate(panels.items()):
        width, height = (whole(panel[f"max_{a}"]) - whole(panel[f"min_{a}"]) + 1 for a in ("fs", "ss"))
        some = MOST // len(panels)
        fs = np.append(rng.integers(0, width, some), (0, width - 1, 0, width - 1))
        ss = np.append(rng.integers(0, height, some), (0, 0, height - 1, height - 1))
        place = metres(panel, fs, ss, clen, shift)
        ours = detector.corner[i] + np.outer(fs, detector.fs[i]) + np.outer(ss, detector.ss[i])
        ours *= detector.pitch[i]
        q, our_q = scattering(place, WAVELENGTH), detector.q(np.full(len(fs), i), fs, ss, WAVELENGTH)
        for mine, theirs in ((ours, place), (our_q, q)):
            size = np.linalg.norm(theirs, axis=1)
            assert np.all(np.linalg.norm(mine - theirs, axis=1) <= PRECISION * size + 1e-300), name

        expected, unsure = bad_pixels(name, panel, bad, fs, ss, place, q, masks, highres)
        x0, y0 = detector.rect[i, :2]
        assert np.array_equal(drawn[y0 + ss, x0 + fs] | unsure, expected | unsure), name
        assert np.mean(unsure) < 0.02
        count += np.count_nonzero(expected), np.count_nonzero(~expected)
    return count


@pytest.mark.parametrize("name", CASES)
def test_made_up_detectors(name):
    text = TOP + CASES[name][0]
    first = next(iter(plain(text)[0]))
    text += BADS.format(panel=first)
    literal = {"barrel": 0.0, "large shift and negative camera length": -0.42}
    n_bad, n_good = compare(text, read(text), literal.get(name, CLEN), SHIFT)
    assert n_bad > 1000
    assert n_good > 1000


def test_real_files(data_folder):
    """All that load, each at its own camera length or a likely one."""
    compared = masked = 0
    for path in sorted((data_folder / "geoms").glob("*.geom")):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        try:
            geometry = parse_geometry(text, path.name)
        except GeometryError:
            continue
        offset = np.mean([panel.coffset for panel in geometry.panels])
        compare(text, geometry, CLEN - offset, SHIFT)
        compared += 1
        masked += any(mask.file for panel in geometry.panels for mask in panel.masks)
    assert compared == 70
    assert masked >= 5
