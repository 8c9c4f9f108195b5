# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as DECTRIS detectors send them: Stream V1 (parts of JSON and pixels) and V2 (CBOR).

After the SIMPLON API reference 1.8 and DECTRIS' public description of Stream V2.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from gpuidx.simulation.compress import compress

V1_ENCODINGS = ("<", "lz4<", "bs-lz4<")
"""None, one bare LZ4 block, and bitshuffle with LZ4, which is sent as ``bs16-lz4<`` and the like."""

V2_COMPRESSIONS = ("none", "bslz4", "bszstd", "lz4")

TYPED = {
    "|u1": 64, ">u2": 65, ">u4": 66, ">u8": 67, "<u2": 69, "<u4": 70, "<u8": 71,
    "|i1": 72, ">i2": 73, ">i4": 74, ">i8": 75, "<i2": 77, "<i4": 78, "<i8": 79,
    ">f4": 81, ">f8": 82, "<f4": 85, "<f8": 86,
}  # fmt: skip
"""Tags of typed arrays, RFC 8746."""

_TICKS = 50_000_000
_HASH = "0" * 32


def _json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def bare_lz4(data: bytes) -> bytes:
    """One LZ4 block without any size; HDF5's filter makes it, unless it would be longer than the data."""
    framed = compress(np.frombuffer(data, np.uint8), "lz4")
    size, _, length = struct.unpack_from(">QII", framed)
    return framed[16:] if length < size else _literals(data)


def _literals(data: bytes) -> bytes:
    """An LZ4 block of nothing but literals: data that cannot be compressed."""
    if len(data) < 15:
        return bytes([len(data) << 4]) + data
    more = len(data) - 15
    return b"\xf0" + b"\xff" * (more // 255) + bytes([more % 255]) + data


def v1_start(
    series: int = 1,
    configuration: Mapping[str, Any] | None = None,
    pixel_mask: NDArray[np.uint32] | None = None,
    appendix: bytes | None = None,
) -> list[bytes]:
    """The header of a series.

    Parameters
    ----------
    series
        Its number.
    configuration
        Of the detector: ``photon_energy`` (eV), ``detector_distance`` (m), …; None: ``header_detail`` none.
    pixel_mask : (ss, fs)
        Not 0 where a pixel is bad; with it flatfield and count rate table are sent too.
    appendix
        Of the user.
    """
    detail = "none" if configuration is None else "basic" if pixel_mask is None else "all"
    parts = [_json(htype="dheader-1.0", series=series, header_detail=detail)]
    if configuration is not None:
        parts.append(_json(**configuration))
    if pixel_mask is not None:
        shape = list(pixel_mask.shape[::-1])
        flatfield = np.ones(pixel_mask.shape, "<f4")
        table = np.zeros((2, 16), "<f4")
        parts += [_json(htype="dflatfield-1.0", shape=shape, type="float32"), flatfield.tobytes()]
        parts += [
            _json(htype="dpixelmask-1.0", shape=shape, type="uint32"),
            pixel_mask.astype("<u4").tobytes(),
        ]
        parts += [_json(htype="dcountrate_table-1.0", shape=[16, 2], type="float32"), table.tobytes()]
    return parts if appendix is None else [*parts, appendix]


def v1_image(
    image: NDArray[Any],
    frame: int = 0,
    series: int = 1,
    encoding: str = "bs-lz4<",
    appendix: bytes | None = None,
) -> list[bytes]:
    """An image.

    Parameters
    ----------
    image : (ss, fs)
        Integers; they are sent little-endian, or big-endian if the encoding ends so.
    frame, series
        Numbers from 0 and 1.
    encoding
        One of `V1_ENCODINGS`, or with ``>`` at its end.
    appendix
        Of the user.
    """
    pixels = np.ascontiguousarray(image.astype(np.dtype(encoding[-1] + image.dtype.str[1:])))
    encoding = encoding.replace("bs-", f"bs{8 * pixels.itemsize}-")
    if encoding.startswith("bs"):
        blob = compress(pixels, "bslz4")
    else:
        blob = bare_lz4(pixels.tobytes()) if "lz4" in encoding else pixels.tobytes()
    about = {
        "shape": list(image.shape[::-1]),
        "type": image.dtype.name,
        "encoding": encoding,
        "size": len(blob),
    }
    times = {"start_time": 1000 * frame, "stop_time": 1000 * frame + 900, "real_time": 900}
    parts = [
        _json(htype="dimage-1.0", series=series, frame=frame, hash=_HASH),
        _json(htype="dimage_d-1.0", **about),
        blob,
        _json(htype="dconfig-1.0", **times),
    ]
    return parts if appendix is None else [*parts, appendix]


def v1_end(series: int = 1) -> list[bytes]:
    """The end of a series."""
    return [_json(htype="dseries_end-1.0", series=series)]


def array(values: NDArray[Any], compression: str = "none") -> cbor2.CBORTag:
    """An array with its shape, for CBOR.

    Parameters
    ----------
    values
        Of one of the types in `TYPED`.
    compression
        One of `V2_COMPRESSIONS`.
    """
    content: Any = compress(np.ascontiguousarray(values), compression)
    if compression != "none":
        element = 0 if compression == "lz4" else values.itemsize
        content = cbor2.CBORTag(56500, [compression, element, content])
    return cbor2.CBORTag(40, [list(values.shape), cbor2.CBORTag(TYPED[values.dtype.str], content)])


def cbor_map(values: Mapping[str, Any]) -> bytes:
    """A message; it says of itself that it is CBOR, as DECTRIS' do."""
    message: bytes = cbor2.dumps(cbor2.CBORTag(55799, dict(values)))
    return message


def v2_start(
    values: Mapping[str, Any],
    channels: Sequence[str] = ("threshold_1",),
    pixel_mask: Mapping[str, NDArray[np.uint32]] | None = None,
    series: int = 1,
) -> list[bytes]:
    """The start of a series.

    Parameters
    ----------
    values
        ``incident_energy`` (eV), ``detector_translation`` (m), …
    channels
        Their names, in the detector's order.
    pixel_mask : (ss, fs)
        Of each channel, not 0 where a pixel is bad.
    series
        Its number.
    """
    masks = {name: array(mask.astype("<u4"), "bslz4") for name, mask in (pixel_mask or {}).items()}
    about = {
        "type": "start",
        "channels": list(channels),
        "series_id": series,
        "series_unique_id": f"S{series}",
    }
    return [cbor_map({**about, "pixel_mask": masks, "flatfield": {}, **values})]


def v2_image(
    channels: Mapping[str, NDArray[Any]],
    image_id: int = 0,
    series: int = 1,
    compression: str = "bslz4",
    values: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """An image.

    Parameters
    ----------
    channels : (ss, fs)
        Pixels of each.
    image_id, series
        Numbers from 0 and 1.
    compression
        One of `V2_COMPRESSIONS`.
    values
        Further ones.
    """
    times = {"real_time": [900, _TICKS], "start_time": [1000 * image_id, _TICKS]}
    message = {
        "type": "image",
        "data": {name: array(pixels, compression) for name, pixels in channels.items()},
        "image_id": image_id,
        **times,
        "series_id": series,
        "series_unique_id": f"S{series}",
        "user_data": None,
    }
    return [cbor_map(message | dict(values or {}))]


def v2_end(series: int = 1) -> list[bytes]:
    """The end of a series."""
    return [cbor_map({"type": "end", "series_id": series, "series_unique_id": f"S{series}"})]
