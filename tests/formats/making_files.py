# SPDX-License-Identifier: GPL-3.0-or-later
"""Small HDF5 files, and a decoder that reads them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from formats.making import GEOMETRY, IMAGE, decoder

from gpuidx.formats import Decoder
from gpuidx.model import Frame, Message

FILE = (
    GEOMETRY.replace("data = image", "data = /entry/data")
    .replace("= photon_energy eV", "= /beam/energy eV")
    .replace("= clen_mm mm", "= /det/clen mm")
)
MANY = FILE.replace("{extra}", "dim0 = %\ndim1 = ss\ndim2 = fs")
FRAMES = np.stack([IMAGE + i for i in range(3)])


def write(path: Path, data: Any = IMAGE, energy: Any = 9500.0, clen: Any = 50.0, **how: Any) -> str:
    with h5py.File(path, "w") as file:
        if data is not None:
            file.create_dataset("entry/data", data=data, **how)
        for name, value in (("beam/energy", energy), ("det/clen", clen)):
            if value is not None:
                file[name] = value
    return str(path)


def files_decoder(text: str = FILE, **options: Any) -> Decoder:
    return decoder(text, input="list", zmq_input=(), zmq_subscribe=(), **options)


def read(filename: str, event: str = "//", using: Decoder | None = None) -> Frame:
    using = using or files_decoder()
    try:
        return using.decode(Message(serial=3, filename=filename, event=event, data=memoryview(b"")))
    finally:
        using.close()
