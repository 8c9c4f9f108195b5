# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry files damaged in every way: each must load or be refused with a line, within a second.

What loads is used as a run would use it: detector, mask, and the report of ``gpuidx geom check``.
"""

import argparse
import contextlib
import random
import re
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from gpuidx.commands.geom_report import View, figures
from gpuidx.errors import GeometryError
from gpuidx.geometry import Geometry, parse_geometry, streaming_problems
from gpuidx.geometry.lint import suspicions
from gpuidx.geometry.masks import Masks
from gpuidx.geometry.origins import missing_files, origins
from gpuidx.simulation.detector import default_geometry

LONGEST = 1.0
"""s of processor time that a file may take."""

SHORT, SHORTENED = 70, 0.97
"""Lines to which this share of the texts is cut first: short ones are damaged and read much faster."""

USED = 0.05
"""Share of the geometries that load and are used, which takes longer than to read them."""

MOST_PIXELS = 4_000_000
"""Pixels of a slab that is drawn; larger ones are legal, and only slow."""

KEYS = """
    min_fs max_fs min_ss max_ss corner_x corner_y fs ss res adu_per_eV adu_per_photon clen coffset data dim0
    dim1 dim2 dim15 dim16 mask mask_file mask_good mask_bad mask0_data mask1_file mask7_goodbits mask8_badbits
    mask_edge_pixels saturation_map saturation_map_file no_index flag_equal flag_lessthan flag_morethan
    max_adu photon_energy wavelength electron_voltage peak_list peak_list_type bandwidth rigid_group_q group_a
    group_all detector_shift_x detector_shift_y min_x max_x min_y max_y panel badrow_direction integr_radius
"""

VALUES = """
    0 1 -1 2 10.7 1e3 1e9 1e308 1e999 1e-999 -0 nan -inf inf 0x1p3 0x 9000_eV 9_keV 0.1_m 80_mm 1_A 1.2_A /a/b
    /a/%/b_mm % fs ss x -x +0.5x-0.5z 0.999x+0.01y 1e-3x --x y z xyz a,b a,a p0,p1 2147483647 2147483648
    99999999999999999999 -2147483649 0xffffffff true FALSE cxi list3 auto 200_kV ; = / a/b_=_c é 9e9x _ \0
"""

NAMES = ["", "p0/", "p1/", "q0a0/", "bad1/", "bad/", "badger/", " p0 /", "a/b/", "\t/"]


def corpus(folder: Path | None) -> list[str]:
    """Texts to be damaged: the built-in detector, and the files of a folder."""
    texts = [default_geometry(64), default_geometry(128, "hdf5", "mask.h5")]
    if folder is not None:
        paths = sorted(folder.rglob("*.geom"))
        texts += [path.read_bytes().decode("utf-8", "surrogateescape") for path in paths]
    return texts


def damaged(text: str, rng: random.Random) -> str:
    """The text after a few random changes."""
    keys, values = KEYS.split(), [value.replace("_", " ") for value in VALUES.split()]
    lines = text.split("\n")
    if len(lines) > SHORT and rng.random() < SHORTENED:
        start = rng.randrange(len(lines) - SHORT // 2)
        lines = lines[: SHORT // 2] + lines[start : start + SHORT // 2]
    for _ in range(rng.choice((1, 1, 2, 3, 8, 30))):
        at = rng.randrange(len(lines)) if lines else 0
        change = rng.randrange(10)
        if change == 0 and lines:
            del lines[at]
        elif change == 1 and lines:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif change == 2 and lines:
            to = rng.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        elif change in (3, 4) and lines:
            lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(values)}"
        elif change == 5:
            lines.insert(at, f"{rng.choice(NAMES)}{rng.choice(keys)} = {rng.choice(values)}")
        elif change == 6 and lines:
            lines[at] = number_changed(lines[at], rng)
        elif change == 7 and lines and lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + chr(rng.randrange(0x250)) + lines[at][place + rng.randrange(2) :]
        elif change == 8 and lines:
            lines[at] = (
                lines[at].replace("fs", "s" + "s") if rng.random() < 0.5 else lines[at] * rng.choice((2, 50))
            )
        elif change == 9 and lines:
            owner = re.match(r"([^/=]+)/", lines[at])
            if owner:
                name = rng.choice(("p0", "bad9", "zz", owner[1] + "x"))
                lines = [line.replace(owner[0], f"{name}/") for line in lines]
    return rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines)


def number_changed(line: str, rng: random.Random) -> str:
    """The line with one of its numbers scaled, negated or made odd."""
    found = list(re.finditer(r"[0-9]+\.?[0-9]*", line))
    if not found:
        return line
    one = rng.choice(found)
    new = rng.choice(
        ("0", "-" + one[0], one[0] + "0", one[0] + "000000", "0." + one[0], one[0] + "e5", "nan", "1")
    )
    return line[: one.start()] + new + line[one.end() :]


def use(geometry: Geometry) -> None:
    """What a run and the check do with a geometry."""
    streaming_problems(geometry)
    origins(geometry)
    missing_files(geometry)
    rows, columns = geometry.slab_shape
    for clen in (0.1, -0.5):
        try:
            detector = geometry.detector(clen, 0.001, 0.0)
        except ValueError:
            continue
        suspicions(geometry, detector)
        small = rows * columns <= MOST_PIXELS
        bad = None
        if small:
            with contextlib.suppress(GeometryError):  # mask files that are not there
                bad = Masks(geometry, 2.0, reader=no_file).at(detector, 1.0)
            masks = Masks(geometry, 2.0, read_masks=False, reader=some_file)
            bad = masks.at(detector, 1.0)
            masks.flagged(np.zeros(geometry.slab_shape, np.int16))
        figures(View(geometry, detector, 1.0, clen, bad), None)


def no_file(file: str, data: str) -> np.ndarray:
    """No mask file is there."""
    raise FileNotFoundError(file)


def some_file(file: str, data: str) -> np.ndarray:
    """A saturation map of a size that hardly suits."""
    return np.ones((512, 512))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder of geometry files, besides the built-in ones")
    options = parser.parse_args()
    texts, rng = corpus(options.corpus), random.Random(options.seed)
    end, count, slowest = time.monotonic() + options.seconds, Counter[str](), 0.0
    while time.monotonic() < end:
        text = damaged(rng.choice(texts), rng)
        begin = time.process_time()
        try:
            geometry = parse_geometry(text, "fuzz.geom")
            took = time.process_time() - begin
            count["loaded"] += 1
            if rng.random() < USED:
                use(geometry)
        except GeometryError as error:
            took = time.process_time() - begin
            count["refused"] += 1
            if not re.match(r"fuzz\.geom:[0-9]+: ", str(error)):
                fail(text, f"an error without a line: {error}", count)
        except Exception:
            fail(text, traceback.format_exc(), count)
        slowest = max(slowest, took)
        if took > LONGEST:
            fail(text, f"took {took:.2f} s", count)
        used = time.process_time() - begin
        count["slow to use"] += used > 2 * LONGEST
        if used > 10:
            fail(text, f"used for {used:.2f} s", count)
    print(f"seed {options.seed}, {len(texts)} texts: {dict(count)}; slowest to read {slowest:.3f} s")


def fail(text: str, why: str, count: Counter[str]) -> None:
    """Keep the text that did it, and end."""
    Path("fuzz-failure.geom").write_bytes(text.encode("utf-8", "surrogateescape"))
    sys.exit(f"{why}\nafter {dict(count)}; the text is in fuzz-failure.geom")


if __name__ == "__main__":
    main()
