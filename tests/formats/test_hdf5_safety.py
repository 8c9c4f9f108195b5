# SPDX-License-Identifier: GPL-3.0-or-later
import io

import h5py
import numpy as np
import pytest
from formats.making import IMAGE, RNG
from formats.making_files import FILE
from formats.making_hdf5 import DATA, decode, made, messages, reason, sent


@pytest.fixture
def foreign(tmp_path):
    """A file that a message must not read, though it fits."""
    path = tmp_path / "foreign.h5"
    path.write_bytes(sent(IMAGE + 1000))
    raw = tmp_path / "foreign.raw"
    raw.write_bytes((IMAGE + 1000).tobytes())
    return path, raw


def leads_out(file, how, foreign):
    path, raw = foreign
    if how == "link":
        file[DATA] = h5py.ExternalLink(str(path), DATA)
    elif how == "group":
        file["entry"] = h5py.ExternalLink(str(path), "/entry")
    elif how == "behind a soft link":
        file["e"] = h5py.ExternalLink(str(path), DATA)
        file[DATA] = h5py.SoftLink("/e")
    elif how == "storage":
        file.create_dataset(DATA, (64, 64), "i4", external=[(str(raw), 0, IMAGE.nbytes)])
    else:
        layout = h5py.VirtualLayout((64, 64), "i4")
        layout[...] = h5py.VirtualSource(str(path), DATA, (64, 64))
        file.create_virtual_dataset(DATA, layout)


@pytest.mark.parametrize("how", ["link", "group", "behind a soft link", "storage", "virtual"])
def test_nothing_outside_the_message_is_read(how, foreign, monkeypatch):
    data = made(lambda file: leads_out(file, how, foreign))
    monkeypatch.chdir(foreign[0].parent)
    found = reason(data)
    assert found[0] == "leads out of the message"
    assert DATA in found[1]


@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
def test_no_header_value_or_mask_outside_the_message_is_read(how, foreign):
    text = FILE.replace(DATA, "/pixels").replace("= /beam/energy eV", f"= {DATA} eV")

    def fill(file):
        file["pixels"] = IMAGE
        leads_out(file, how, foreign)

    assert reason(made(fill), messages(text))[0] == "leads out of the message"
    text = FILE.replace(DATA, "/pixels").replace("{extra}", f"mask0_data = {DATA}\nmask0_badbits = 1")
    assert reason(made(fill), messages(text, with_masks=True))[0] == "leads out of the message"


def test_claims_of_size_are_not_believed():
    """Chunks of 64 GB would be decompressed by HDF5."""

    def huge(file):
        kept = file.create_dataset(
            DATA, (1, 64, 64), "u1", maxshape=(None,) * 3, chunks=(40, 5000, 6000), compression="lzf"
        )
        kept.id.write_direct_chunk((0, 0, 0), b"\0" * 100)

    assert reason(made(huge))[0] == "wrong shape"

    def long(file):
        file[DATA] = IMAGE
        del file["/beam/energy"]
        file["/beam/energy"] = np.void(b"\0" * 70000)

    assert reason(made(long))[0] == "bad header value"


@pytest.mark.parametrize("compression", ["bslz4", "bszstd", "lz4", "gzip", "gzip+shuffle"])
def test_damaged_chunks_are_rejected(compression):
    data = bytearray(sent(RNG.integers(0, 2**31, (64, 64), np.int32), compression))
    with h5py.File(io.BytesIO(bytes(data))) as file:
        info = file[DATA].id.get_chunk_info(0)
    data[info.byte_offset : info.byte_offset + 12] = b"\xff" * 12
    assert reason(bytes(data))[0] == "damaged image"


def damaged_text(at_place, value):
    """A message whose photon energy is text, with bytes changed in its reference or its heap."""

    def fill(file):
        file[DATA] = IMAGE
        del file["/beam/energy"]
        file["/beam/energy"] = "9500"

    data = bytearray(made(fill))
    with h5py.File(io.BytesIO(bytes(data))) as file:
        at = file["/beam/energy"].id.get_offset()
    if at_place >= 16:  # in the heap
        at = data.index(b"GCOL") - 16
    data[at + at_place : at + at_place + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, b"\xff\xff\xff\xff", "bad header value"),
        (0, b"\0\0\0\0", "bad header value"),
        (4, b"\xff" * 8, "bad header value"),
        (4, b"\0" * 8, "damaged HDF5 file"),
        (12, b"\x07", "damaged HDF5 file"),
        (16, b"OOPS", "damaged HDF5 file"),
        (24, b"\x07\0", "damaged HDF5 file"),
        (40, b"\0" * 8, "damaged HDF5 file"),
        (40, b"\xff" * 8, "damaged HDF5 file"),
        (32, b"\x09", "damaged HDF5 file"),
    ],
)
def test_a_text_that_is_not_where_it_is_said_to_be_is_no_trap(at, value, why):
    """HDF5 itself fills four gigabytes with zeros, or never comes back."""
    assert decode(damaged_text(0, b"")).photon_energy == pytest.approx(9500)
    assert reason(damaged_text(at, value))[0] == why
