# SPDX-License-Identifier: GPL-3.0-or-later
"""Jungfraujoch: DECTRIS Stream V2 with more keys, and the simpler CBOR of its first versions.

The newer messages are those of `dectris_v2`, with the detector's distance, a value for bad pixels
(``error_value``) and the spots that were found.  Those of early 2023 have the image as a chunk of HDF5 that
says neither type nor shape nor compression: the geometry must cover the whole image, and its pixels are
signed integers of 16 or 32 bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats import cbor, dectris_v2
from gpuidx.formats.cbor import Entries
from gpuidx.formats.cbor_arrays import numbers_of
from gpuidx.formats.chunks import unpack
from gpuidx.formats.dectris_v2 import DectrisV2Decoder
from gpuidx.formats.frame import DTYPE_OF, slab
from gpuidx.formats.peaks import MOST_PEAKS, PeakReader
from gpuidx.formats.planes import plane, shape_of
from gpuidx.formats.starts import Start
from gpuidx.model import Packed, PeakList

SPOTS = "spots"
"""Key of the spots, unless ``peak_list`` of the geometry gives another."""

OWN_KEYS = (b"lmagic_number", b"limage_number", b"data\x58", b"data\x59", b"data\x5a", b"data\x5b")
"""Which DECTRIS' messages do not have, or not at their beginning: keys, and an image without channels."""

WORST = np.iinfo(np.int16).min + 3
"""Pixels up to this value are lost or in error, in early messages; no photon count is so negative."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK_HEAD = 12


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be Jungfraujoch's and not DECTRIS' own, by its first bytes."""
    first = bytes(parts[-1][:1024]) if parts else b""
    return dectris_v2.begins(parts) and any(key in first for key in OWN_KEYS)


class JungfraujochDecoder(DectrisV2Decoder):
    """Decodes the messages of one run, of both kinds; those of DECTRIS detectors too."""

    def _image(self, fields: Entries, start: Start) -> NDArray[Any] | Packed:
        data = cbor.binary(fields.get_item("data"))
        if data is None:
            return super()._image(fields, start)
        pixels = self._chunk(data)
        arrays = [(place, plane(pixels, place, "the image")) for place in self.geometry.arrays]
        image = slab(arrays, self.geometry.slab_shape, self.buffers)
        lost = image <= WORST
        return self._no_data.taken_out(image, None, lost if lost.any() else None)

    def _chunk(self, data: memoryview) -> NDArray[Any]:
        """The pixels of a chunk: what it is shows in its length, its head and its first block."""
        shape = shape_of(self.geometry.arrays)
        n_pixel = int(np.prod(shape, dtype=object))
        types = {n_pixel * np.dtype(letters).itemsize: DTYPE_OF[letters] for letters in ("<i2", "<i4")}
        if len(data) in types:
            return unpack(data, "none", types[len(data)], shape)
        claimed = int.from_bytes(data[:8], "big")
        if claimed not in types or len(data) < _CHUNK_HEAD + 8:
            raise Rejected(
                "wrong shape",
                f"the image has {len(data)} bytes and its head says {claimed}; the geometry's {shape} pixels "
                f"need {' or '.join(map(str, types))}",
            )
        magic = bytes(data[_CHUNK_HEAD + 4 : _CHUNK_HEAD + 8])
        return unpack(data, "bszstd" if magic == _ZSTD else "bslz4", types[claimed], shape)

    def _peaks(self, fields: Entries) -> PeakList:
        """The spots: numbers x, y, intensity one after the other, or a map of them for each spot."""
        reader = PeakReader(self.geometry, self.half_pixel_shift, self.notes)
        key = self.geometry.peak_list.strip("/") if self.geometry.peak_list else SPOTS
        key = key if key in fields else SPOTS
        item = fields.get_item(key)
        numbers = numbers_of(item, key)
        if numbers is None:
            numbers = _numbers(item, key)
        if len(numbers) % 3 or len(numbers) > 3 * MOST_PEAKS:
            raise Rejected("bad peak list", f"'{key}' has {len(numbers)} numbers; expected x, y, I for each")
        x, y, intensity = numbers.astype(np.float64).reshape(-1, 3).T
        return reader.peaks(x, y, intensity)


def _numbers(item: memoryview, key: str) -> NDArray[np.float64]:
    spots = cbor.elements(item, 3 * MOST_PEAKS)
    if spots is None:
        raise Rejected("bad peak list", f"'{key}' is {cbor.kind_of(item)}; expected a list of spots")
    found: list[Any] = []
    for spot in spots:
        value = cbor.decode(spot, key)
        if isinstance(value, Mapping):
            found += [value.get("x"), value.get("y"), value.get("I", value.get("intensity"))]
        else:
            found.append(value)
    if not all(isinstance(number, int | float) for number in found):
        raise Rejected("bad peak list", f"'{key}' holds something else than x, y and I of spots")
    return np.array(found, np.float64)
