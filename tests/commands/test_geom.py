# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx geom check``: what it prints, its exit code, and the picture."""

import builtins
import struct
import zlib

import numpy as np
import pytest

from gpuidx import cli
from gpuidx.simulation.detector import LYSOZYME, default_geometry

GEOMETRY = default_geometry(256).replace("beam_energy eV", "9000 eV").replace("detector_distance mm", "0.05")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a geometry d.geom and a cell."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.geom").write_text(GEOMETRY)
    (tmp_path / "l.cell").write_text(LYSOZYME)
    return tmp_path


def checked(capsys, *words):
    """Exit code, output, errors."""
    code = cli.call(["geom", "check", *words])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_what_is_understood_is_printed(folder, capsys):
    code, text, err = checked(capsys, "d.geom", "-p", "l.cell", "--no-picture")
    assert (code, err) == (0, "")
    for line in (
        "photon energy  9000 eV in the file, that is 1.3776 Å  (line 4)",
        "camera length  0.05 m in the file  (line 5)",
        "image          'detector_data' (ss, fs), at least 256 × 256 (ss × fs), 4 panels",
        "peaks          'peak_list' of each frame, type auto",
        "panels       4 of 128 × 128 px (fs × ss) of 75 µm; 0.0655 million pixels",
        "beam centre  on no panel; nearest is ",
        "edge         7.06 Å (2θ = 11.20°)",
        "bad pixels   ",
        "cell         79.1 79.1 37.9 Å, tetragonal P: spots along the longest axis are 11.6 px apart",
        "no warnings",
    ):
        assert line in text, text
    assert sorted(path.name for path in folder.iterdir()) == ["d.geom", "l.cell"]


def test_values_of_headers_can_be_given(folder, capsys):
    (folder / "h.geom").write_text(default_geometry(256))
    code, text, _ = checked(capsys, "h.geom", "--no-picture")
    assert code == 0
    assert "resolution   not known; give --camera-length" in text
    assert "edge" not in text
    _, text, _ = checked(capsys, "h.geom", "--no-picture", "--camera-length=0.05")
    assert "edge         2θ = 11.20°" in text
    assert "in Å not known; give --photon-energy" in text
    _, text, _ = checked(capsys, "h.geom", "--no-picture", "--camera-length=0.05", "--photon-energy=9000")
    assert "edge         7.06 Å (2θ = 11.20°)" in text


@pytest.mark.parametrize("option", ["--photon-energy=9000", "--camera-length=0.1"])
def test_values_that_the_file_gives_cannot_be_given_again(folder, capsys, option):
    code, _, err = checked(capsys, "d.geom", option)
    assert code == 2
    assert "gives it already" in err


@pytest.mark.parametrize("option", ["--photon-energy=0", "--photon-energy=nan", "--camera-length=inf"])
def test_values_that_make_no_sense_are_refused(folder, capsys, option):
    (folder / "h.geom").write_text(default_geometry(256))
    code, _, err = checked(capsys, "h.geom", option)
    assert code in (1, 2)
    assert err.count("\n") <= 2


def test_warnings_have_their_lines(folder, capsys):
    (folder / "d.geom").write_text("foo = 1\n" + GEOMETRY.replace("0.05", "/clen"))
    code, text, _ = checked(capsys, "d.geom", "--no-picture")
    assert code == 0
    assert "warning: d.geom:1: unknown field 'foo' has no effect" in text
    assert "warning: d.geom:6: clen is the header '/clen' without a unit" in text
    assert text.endswith("2 warnings\n")


def test_all_errors_of_the_file_are_told(folder, capsys):
    (folder / "d.geom").write_text("p0/fs = 1e3x\np0/min_fs = -1\n")
    code, text, err = checked(capsys, "d.geom")
    assert (code, text) == (1, "")
    assert "gpuidx: d.geom:1: p0/fs = '1e3x'" in err
    assert "no wavelength" in err
    assert not (folder / "d.geom.png").exists()


def test_a_mask_file_that_is_missing_is_an_error(folder, capsys):
    lines = "mask0_data = /m\nmask0_file = m.h5\nmask0_badbits = 1\n"
    (folder / "d.geom").write_text(lines + GEOMETRY)
    code, text, _ = checked(capsys, "d.geom", "--no-picture")
    assert code == 1
    assert "error: d.geom:3: mask file 'm.h5' does not exist" in text
    assert text.endswith("1 error\n")
    (folder / "m.h5").write_bytes(b"not HDF5")
    code, text, _ = checked(capsys, "d.geom", "--no-picture")
    assert code == 1
    assert "error: d.geom:3: '/m' in 'm.h5' cannot be read" in text


def test_streams_that_cannot_carry_it_are_told(folder, capsys):
    (folder / "d.geom").write_text("mask0_data = /m\nmask0_badbits = 1\n" + GEOMETRY)
    code, text, _ = checked(capsys, "d.geom", "--no-picture")
    assert code == 0
    assert "only from files, or HDF5 messages: panel p0: mask '/m' has no file of its own" in text


def test_spots_that_are_too_close_are_a_warning(folder, capsys):
    (folder / "l.cell").write_text(LYSOZYME.replace("79.10", "791.0").replace("37.90", "379.0"))
    _, text, _ = checked(capsys, "d.geom", "-p", "l.cell", "--no-picture")
    assert "warning: d.geom: spots of this cell are 1.2 px apart" in text


def pixels(file):
    """Pixels of a PNG with 8 bits a channel and no filter but the simple ones; (row, column, channel)."""
    data, at, packed = file.read_bytes(), 8, b""
    width = height = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[at + 8 : at + 16])
        packed += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    return width, height, len(zlib.decompress(packed)) // height


@pytest.mark.parametrize(("n", "extra"), [(256, ""), (64, "p1/no_index = 1\np2/fs = z\np2/ss = y\n")])
def test_a_picture_is_drawn(folder, capsys, n, extra):
    pytest.importorskip("matplotlib", reason="install the extra: pip install gpuidx[pictures]")
    text = default_geometry(n).replace("beam_energy eV", "9000 eV").replace("detector_distance mm", "0.05")
    (folder / "d.geom").write_text(text + extra)
    code, text, _ = checked(capsys, "d.geom")
    assert code == 0
    assert text.endswith("picture: d.geom.png\n")
    width, height, _ = pixels(folder / "d.geom.png")
    assert width > 800
    assert height > 800


def test_bad_pixels_are_red_and_good_ones_are_not(folder, capsys):
    pytest.importorskip("matplotlib", reason="install the extra: pip install gpuidx[pictures]")
    from matplotlib import image

    shares = []
    for extra in ("", "".join(f"p{i}/no_index = 1\n" for i in range(4))):
        (folder / "d.geom").write_text(GEOMETRY + extra)
        checked(capsys, "d.geom", "--picture", "p.png")
        red, green, blue = np.moveaxis(image.imread(folder / "p.png")[..., :3], -1, 0)
        shares.append(np.mean((red > green + 0.25) & (red > blue + 0.25)))
    assert shares[0] < 0.02
    assert shares[1] > 0.3


def test_a_picture_that_cannot_be_written_is_an_error(folder, capsys):
    pytest.importorskip("matplotlib", reason="install the extra: pip install gpuidx[pictures]")
    code, _, err = checked(capsys, "d.geom", "--picture", "no/folder/p.png")
    assert code == 1
    assert "gpuidx: no/folder/p.png: cannot be written: No such file or directory" in err


def test_without_matplotlib_there_is_the_text(folder, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] == "matplotlib" or name.endswith("geom_picture"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    code, text, err = checked(capsys, "d.geom")
    assert code == 0
    assert "beam centre" in text
    assert err == "no picture: matplotlib is not installed; pip install 'gpuidx[pictures]'\n"


def test_help_names_the_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.call(["geom", "check", "--help"])
    assert ended.value.code == 0
    assert "--camera-length M" in capsys.readouterr().out
