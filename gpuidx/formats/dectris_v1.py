# SPDX-License-Identifier: GPL-3.0-or-later
"""DECTRIS Stream, first version ("legacy"): messages of several parts, JSON and pixels.

As in the SIMPLON API reference, 1.6 to 1.8.  An image has four parts, ``dimage-1.0``, ``dimage_d-1.0``,
the pixels and ``dconfig-1.0``, and a fifth if the user appends something.  Header values are found by the
names in these, then by those of the series' header: ``photon_energy`` (eV), ``detector_distance`` (m), …
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.blobs import BARE_LZ4, found, unpacked
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.formats.named_values import header_value
from gpuidx.formats.no_data import NoData, unused_value
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.setting import Setting
from gpuidx.formats.starts import Start, Starts, masked_pixels, saturation
from gpuidx.geometry import DataArray
from gpuidx.model import Frame, Message, source_id_of

LONGEST_JSON = 1 << 20
"""Bytes; detector configurations have a few thousand."""

TYPES = {
    f"{kind}{8 * size}": f"{kind[0]}{size}"
    for kind, sizes in (("uint", (1, 2, 4, 8)), ("int", (1, 2, 4, 8)), ("float", (4, 8)))
    for size in sizes
}
"""Pixel types by DECTRIS' names."""

_HTYPE = re.compile(rb'"htype"\s*:\s*"(dheader|dimage|dseries_end)-')
_ENCODING = re.compile(r"(?:bs(8|16|32|64)-(?=lz4))?(lz4)?([<>])?")


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be of this format, by its first bytes."""
    return bool(parts) and _HTYPE.search(bytes(parts[0][:256])) is not None


class DectrisV1Decoder:
    """Decodes the messages of one run; made from the run's setting."""

    def __init__(self, setting: Setting) -> None:
        self.geometry = setting.geometry
        self.with_masks = setting.options.mask_data and setting.masks is not None
        self._frames = OneImage(setting)
        self._no_data = NoData(setting)
        self._starts = Starts(self._read_start, setting.notes)

    def decode(self, message: Message) -> Frame:
        """The frame of a message.

        Raises
        ------
        Rejected
            If it is none, or anything that is needed is missing, malformed or absurd.
        """
        parts = message.parts or (message.data,)
        image = json_map(parts[0], "part 1")
        htype = str(image.get("htype"))
        if not htype.startswith("dimage-1."):
            raise Rejected("not an image", f"the message is {htype!r:.40}; expected 'dimage-1.0'")
        if len(parts) < 3:
            raise Rejected("truncated message", f"{len(parts)} parts; an image has 4 or 5")
        about = json_map(parts[1], "part 2")
        times = json_map(parts[3], "part 4") if len(parts) > 3 else {}
        start = self._starts.of(message, _series(image))
        maps = (image, about, times, *_appendix(parts[4:5]), *start.values)
        layout = _layout(about, "part 2")
        unused = unused_value(layout.dtype)
        return self._frames.frame(
            message,
            lambda name: header_value(maps, name),
            lambda: found(parts[2], *layout, self._frames.checked(_shape(about, "part 2"))),
            lambda image: self._no_data.taken_out(image, unused, start.masked, start.greatest),
            source_id_of(image.get("series"), image.get("frame")),
            start.masked,
            self._no_data.limits(layout.dtype, unused, start.greatest),
        )

    def _read_start(self, parts: Sequence[memoryview]) -> Start:
        """A header: its configuration, and its pixel mask if it was sent along (``header_detail`` all)."""
        first = json_map(parts[0], "part 1")
        configuration = json_map(parts[1], "part 2") if len(parts) > 1 else {}
        appendix: list[dict[str, Any]] = []
        masked, at = None, 2
        while at < len(parts):
            about = _appendix(parts[at : at + 1])
            htype = str(about[0].get("htype", "")) if about else ""
            if htype.startswith("dpixelmask-") and self.with_masks and at + 1 < len(parts):
                masked = self._mask(about[0], parts[at + 1])
            if htype:
                at += 2
                continue
            appendix += about
            at += 1
        return Start(
            (configuration, first, *appendix), _series(first), None, saturation(configuration), masked
        )

    def _mask(self, about: dict[str, Any], data: memoryview) -> NDArray[np.bool_] | None:
        name = "the pixel mask"
        layout, shape = _layout({"type": "uint32"} | about, name), self._frames.checked(_shape(about, name))
        mask = unpacked(data, *layout, shape)

        def mask_of(place: DataArray) -> tuple[NDArray[Any], str]:
            return mask, name

        return masked_pixels(self.geometry, mask_of)


def json_map(part: memoryview, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    Rejected
        If it is none, or too long.
    """
    if len(part) > LONGEST_JSON:
        raise Rejected("malformed message", f"{name} has {len(part)} bytes; JSON has at most {LONGEST_JSON}")
    try:
        found = json.loads(bytes(part).decode())  # bytes would be searched for UTF-16 and UTF-32
    except (ValueError, RecursionError) as error:
        raise Rejected("malformed message", f"{name} is no JSON: {str(error)[:80]}") from error
    if not isinstance(found, dict):
        raise Rejected("not a map", f"{name} is no JSON object")
    return found


def _appendix(parts: Sequence[memoryview]) -> list[dict[str, Any]]:
    """What the user appends, if it is a JSON object; it may be anything."""
    found = []
    for part in parts:
        try:
            found.append(json_map(part, "the appendix"))
        except Rejected:
            continue
    return found


def _series(part: dict[str, Any]) -> dict[str, Any]:
    return {"series": part["series"]} if "series" in part else {}


def _shape(about: dict[str, Any], name: str) -> tuple[int, int]:
    shape = about.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(extent) is int and extent > 0 for extent in shape)
    ):
        raise Rejected("wrong shape", f"{name} says shape {shape!r:.60}; expected [width, height]")
    return shape[1], shape[0]


class Layout(NamedTuple):
    """How pixels lie in a blob; as in `blobs.unpacked`."""

    compression: str
    element: int
    dtype: np.dtype[Any]


def _layout(about: dict[str, Any], name: str) -> Layout:
    letters = TYPES.get(str(about.get("type")))
    if letters is None:
        raise Rejected("unknown pixel type", f"{name} says type {about.get('type')!r:.40}; expected 'uint16'")
    encoding = about.get("encoding", "")
    matched = _ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if matched is None:
        raise Rejected(
            "unknown compression", f"{name} says encoding {encoding!r:.40}; expected for instance 'bs16-lz4<'"
        )
    bits, lz4, order = matched.groups()
    dtype = DTYPE_OF["|" + letters if letters[1:] == "1" else (order or "<") + letters]
    compression = "bslz4" if bits else BARE_LZ4 if lz4 else "none"
    return Layout(compression, int(bits) // 8 if bits else dtype.itemsize, dtype)
