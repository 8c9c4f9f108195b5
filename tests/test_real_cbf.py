# SPDX-License-Identifier: GPL-3.0-or-later
"""CBF frames of real detectors, on their whole way: CrystFEL's peaks, and its lattice where it finds one."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from reference import best_setting, crystal_of, load

from gpuidx.arguments import parse
from gpuidx.cell import read_cell
from gpuidx.geometry import read_geometry
from gpuidx.model import Message
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline

FRAMES = {
    "thau_3_2_0001.A_xgandalf": (
        "pilatus6m_thaumatin/thau_3_2_0001.cbf.gz", "pilatus6m_thaumatin/thaumatin_cbf.geom",
        "-p pilatus6m_thaumatin/thaumatin.cell --threshold=12 --min-snr=4 --min-pix-count=2 --max-res=1200",
    ),
    "eiger16m_therm.A_none": (
        "eiger16m_thermolysin/therm_0001.cbf.gz", "eiger16m_thermolysin/therm_cbf.geom",
        "--indexing=none --threshold=2 --min-snr=3 --min-pix-count=2 --max-res=1800",
    ),
    "p12m_i23.A_none": (
        "pilatus12m_i23/thau_00001.cbf.gz", "pilatus12m_i23/i23_barrel.geom",
        "--indexing=none --threshold=10 --min-snr=5 --min-pix-count=3 --max-res=6000",
    ),
}  # fmt: skip
"""By name of the reference: image, geometry, and the options that the reference used."""


@pytest.mark.parametrize(("name", "sent"), [*((name, False) for name in FRAMES), (next(iter(FRAMES)), True)])
def test_cbf_frame_gives_crystfels_peaks_and_lattice(
    data_folder: Path, name: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, geometry_file, words = FRAMES[name]
    monkeypatch.chdir(data_folder / "images")
    common = ["-g", geometry_file, "-i", "list", "-o", "out", "--peaks=peakfinder8", "--local-bg-radius=4"]
    options = parse(Options, [*common, "--int-radius=3,4,5", *words.split()], "test", "")
    geometry = read_geometry(options.geometry)
    pipeline = Pipeline(options, geometry, read_cell(options.pdb) if options.pdb else None)
    data = gzip.decompress(Path(image).read_bytes()) if sent else b""
    message = Message(serial=1, filename=image, event="//", data=memoryview(bytearray(data)))
    result = pipeline.process(message, memoryview(bytearray(4 << 20))).result
    expected = load(data_folder, name)["frames"][0]
    theirs, peaks = np.array([row[:4] for row in expected["peaks"]]), result.peaks
    at = np.stack([peaks.fs, peaks.ss], axis=1) + result.frame.detector.origin[peaks.panel]
    np.testing.assert_allclose(at, theirs[:, :2], rtol=0, atol=0.0051)
    np.testing.assert_allclose(peaks.intensity, theirs[:, 3], rtol=1e-6, atol=0.0051)
    crystal = crystal_of(expected)
    assert len(result.crystals) == (crystal is not None)
    if crystal is not None:
        M, angle = best_setting(result.crystals[0].recip, crystal.recip)
        lengths = np.linalg.norm(np.linalg.inv(M @ result.crystals[0].recip), axis=0)
        assert angle <= 0.15
        assert np.abs(lengths / crystal.lengths - 1).max() <= 0.003
