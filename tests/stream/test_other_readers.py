# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of others read our streams."""

import warnings

import CFstreamparser
import numpy as np
import pytest
from stream.results import make_result

from gpuidx.cell import UnitCell
from gpuidx.options import OutputOptions
from gpuidx.stream.chunk import ChunkWriter
from gpuidx.stream.head import head_bytes

CELL = UnitCell(
    parameters=(79.1, 79.1, 37.9, 90, 90, 90), lattice_type="tetragonal", centering="P", unique_axis="c"
)


@pytest.fixture
def results(geometry):
    rng = np.random.default_rng(5)
    return [
        make_result(geometry, rng, serial=i + 1, event=f"//{i + 1}", n_crystal=(1, 0, 2)[i]) for i in range(3)
    ]


@pytest.fixture
def path(geometry, results, tmp_path):
    writer = ChunkWriter(geometry, OutputOptions())
    file = tmp_path / "ours.stream"
    with file.open("wb") as out:
        out.write(head_bytes("0.1.0", ["gpuidx", "-o", "ours.stream"], geometry, CELL, None))
        buffer = bytearray(1 << 20)
        for result in results:
            out.write(buffer[: writer.write(result, memoryview(buffer))])
    return file


def test_cfstreamparser_reads_it(path, results):
    stream = CFstreamparser.parse_stream_file(str(path))
    assert len(stream.chunks) == 3
    for chunk, result in zip(stream.chunks, results, strict=True):
        assert chunk.serial == result.frame.serial
        # It takes the first crystal of a chunk only, from CrystFEL's streams as well.
        assert len(chunk.crystals) == min(1, len(result.crystals))
        for found, crystal in zip(chunk.crystals, result.crystals, strict=False):
            made = crystal.reflections
            assert [(r.h, r.k, r.l) for r in found.reflections] == [tuple(h) for h in made.hkl.tolist()]
            np.testing.assert_allclose([r.intensity for r in found.reflections], made.intensity, atol=0.0051)
            np.testing.assert_allclose(found.astar[:3], 10 * crystal.recip[0], atol=6e-8)


def test_reciprocalspaceship_reads_it(path, results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and gemmi have their own
        import reciprocalspaceship

        data = reciprocalspaceship.read_crystfel(str(path), spacegroup="P43212", num_cpus=1)
    crystals = [crystal for result in results for crystal in result.crystals]
    assert len(data) == sum(len(crystal.reflections) for crystal in crystals)
    assert data["BATCH"].nunique() == len(crystals)
    assert data.cell.a == pytest.approx(79.1, abs=0.01)
    intensities = np.concatenate([crystal.reflections.intensity for crystal in crystals])
    np.testing.assert_allclose(np.sort(data["I"].to_numpy(float)), np.sort(intensities), atol=0.01)
