# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels while a geometry file is read: checked when all is known, and laid out in the slab.

Nothing here knows the syntax of the file; see `gpuidx.geometry.parser`.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpuidx.geometry.description import DataArray, FlagRule, MaskSource, Panel
from gpuidx.geometry.lexer import LARGEST_INT, Remarks

Vector = tuple[float, float, float]

PARALLEL = 1e-6
"""Sine of the angle between fs and ss below which a panel has no area."""


@dataclass
class MaskDraft:
    """What has been said of one mask of a panel."""

    data: str | None = None
    file: str | None = None
    good_bits: int = 0
    bad_bits: int = 0
    line: int = 0


@dataclass
class PanelDraft:
    """A panel, or the defaults for further panels, as far as it has been read.

    The values are CrystFEL's defaults; those that must be given are NaN, -1 or None.
    `lines` has the line of each field that was given.
    """

    name: str = ""
    line: int = 0
    min_fs: int = -1
    max_fs: int = -1
    min_ss: int = -1
    max_ss: int = -1
    corner_x: float = math.nan
    corner_y: float = math.nan
    fs: Vector | None = None
    ss: Vector | None = None
    res: float = -1.0
    coffset: float = 0.0
    gain: float = math.nan
    gain_per_ev: bool = False
    max_adu: float = math.inf
    data: str = "/data/data"
    dims: dict[int, str | int] = field(default_factory=lambda: {0: "ss", 1: "fs"})
    mask_edge_pixels: int = 0
    masks: dict[int, MaskDraft] = field(default_factory=dict)
    flags: list[FlagRule] = field(default_factory=list)
    saturation_map: str | None = None
    saturation_map_file: str | None = None
    no_index: bool = False
    lines: dict[str, int] = field(default_factory=dict)

    def named(self, name: str, line: int) -> "PanelDraft":
        """A panel with these defaults; what is said of one later does not reach the other."""
        panel = copy.deepcopy(self)
        panel.name, panel.line = name, line
        return panel

    def where(self, *fields: str) -> int:
        """Line of the first of *fields* that was given, else that where the panel begins."""
        return next((self.lines[name] for name in fields if name in self.lines), self.line)

    def dimensions(self) -> tuple[str | int, ...]:
        """Dimensions of the data array, up to the first that is not given."""
        count = next(number for number in range(len(self.dims) + 1) if number not in self.dims)
        return tuple(self.dims[number] for number in range(count))


def check_panel(panel: PanelDraft, errors: Remarks, warnings: Remarks) -> None:
    """Note everything that a panel lacks, or that makes it useless."""
    for kind, fields, text in _problems(panel):
        errors.add(panel.where(*fields), f"panel {panel.name}: {text}", kind)
    if panel.gain <= 0:
        warnings.add(
            panel.where("gain"), f"panel {panel.name}: gain {panel.gain:g}; expected above 0", "gain"
        )
    dims = panel.dimensions()
    if dims.count("fs") > 1 or dims.count("ss") > 1:
        text = "two dimensions of the data are fs, or two are ss; no frame can be read with that"
        warnings.add(panel.where("dims"), text, text)
    if panel.saturation_map_file is not None and panel.saturation_map is None:
        text = "saturation_map_file without saturation_map has no effect"
        warnings.add(panel.where("saturation_map_file"), text, text)
    for number, mask in panel.masks.items():
        if mask.data is not None and not (mask.good_bits or mask.bad_bits):
            text = f"mask{number} has neither good nor bad bits and so no effect"
            warnings.add(mask.line, text, text)


def _problems(panel: PanelDraft) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Kind, fields to blame and text of each error."""
    yield from _dimension_problems(panel)
    yield from _position_problems(panel)
    yield from _mask_problems(panel)
    if math.isnan(panel.gain):
        yield "gain", ("gain",), "no adu_per_photon or adu_per_eV; give one of them"


def _dimension_problems(panel: PanelDraft) -> Iterator[tuple[str, tuple[str, ...], str]]:
    dims = panel.dimensions()
    if "fs" not in dims or "ss" not in dims:
        yield "dims", ("dims",), "its dimensions lack fs or ss; expected for instance dim0 = ss and dim1 = fs"
    elif dims.index("ss") > dims.index("fs"):
        yield (
            "order",
            ("dims",),
            "fs has a lower dimension than ss; expected for instance dim0 = ss, dim1 = fs",
        )
    elif len(dims) < len(panel.dims):
        yield "gap", ("dims",), f"dim{max(panel.dims)} is given but dim{len(dims)} is not; give all of them"


def _position_problems(panel: PanelDraft) -> Iterator[tuple[str, tuple[str, ...], str]]:
    missing = False
    for name in ("min_fs", "max_fs", "min_ss", "max_ss"):
        value = getattr(panel, name)
        if value < 0:
            missing = True
            text = f"{name} is {value}; expected 0 or more" if name in panel.lines else f"no {name}; give it"
            yield name, (name,), text
    if not missing:
        for scan, low, high in (("fs", panel.min_fs, panel.max_fs), ("ss", panel.min_ss, panel.max_ss)):
            if high < low:
                yield (
                    "size" + scan,
                    ("max_" + scan, "min_" + scan),
                    f"max_{scan} {high} is below min_{scan} {low}",
                )
    for name in ("corner_x", "corner_y", "coffset"):
        value = getattr(panel, name)
        if not math.isfinite(value):
            text = f"{name} is {value:g}; expected a number" if name in panel.lines else f"no {name}; give it"
            yield name, (name,), text
    if not (math.isfinite(panel.res) and panel.res > 0):
        text = f"res is {panel.res:g}" if "res" in panel.lines else "no res"
        yield "res", ("res",), f"{text}; expected pixels per metre, for instance res = 13333.3"
    yield from _direction_problems(panel)


def _direction_problems(panel: PanelDraft) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for name, vector in (("fs", panel.fs), ("ss", panel.ss)):
        if vector is None and name not in panel.lines:
            yield name, (name,), f"no {name} direction; expected for instance {name} = +1.0x"
    if panel.fs is None or panel.ss is None:
        return
    with np.errstate(all="ignore"):  # endless digits give infinities, and those no area
        area = float(np.linalg.norm(np.cross(panel.fs, panel.ss)))
        largest = float(np.linalg.norm(panel.fs) * np.linalg.norm(panel.ss))
    if not area > PARALLEL * largest:
        yield "area", ("ss", "fs"), "fs and ss are parallel or zero, so the panel has no area"


def _mask_problems(panel: PanelDraft) -> Iterator[tuple[str, tuple[str, ...], str]]:
    allowed = panel.data.count("%")
    for number, mask in sorted(panel.masks.items()):
        if mask.data is None and mask.file is not None:
            text = f"mask{number}_file without mask{number}_data; give the path within that file"
            yield f"mask{number} file", (f"mask{number}",), text
        elif mask.data is None and (mask.good_bits or mask.bad_bits):
            text = f"good or bad bits for mask{number}, but no mask{number}_data; give its path"
            yield f"mask{number} bits", (f"mask{number}",), text
        elif mask.data is not None and mask.data.count("%") > allowed:
            text = f"mask{number}_data '{mask.data}' has more % than data '{panel.data}'"
            yield f"mask{number} %", (f"mask{number}",), text
    if panel.saturation_map is not None and panel.saturation_map.count("%") > allowed:
        text = f"saturation_map '{panel.saturation_map}' has more % than data '{panel.data}'"
        yield "saturation %", ("saturation_map",), text


def lay_out(
    panels: Sequence[PanelDraft],
) -> tuple[tuple[Panel, ...], tuple[DataArray, ...], tuple[int, int]]:
    """Places for checked panels in the slab: one data array below the other.

    Panels that share pixels of an array would share their masks and rings, so each further one of
    them is given a copy of the array; such geometries exist (16 modules read from one data set).

    Returns
    -------
    panels, arrays
        In the order of the file.
    slab_shape : (ss, fs)
    """
    arrays: list[DataArray] = []
    corners: list[list[tuple[int, int, int, int]]] = []
    member: list[int] = []
    layers: dict[tuple[str, tuple[str | int, ...]], list[int]] = {}
    for panel in panels:
        kind = (panel.data, panel.dimensions())
        rect = (panel.min_fs, panel.max_fs, panel.min_ss, panel.max_ss)
        found = next((n for n in layers.get(kind, ()) if not _overlaps(rect, corners[n])), None)
        if found is None:
            found = len(arrays)
            arrays.append(DataArray(*kind, row=0, shape=(0, 0)))
            corners.append([])
            layers.setdefault(kind, []).append(found)
        corners[found].append(rect)
        member.append(found)
    row = 0
    for number, rects in enumerate(corners):
        shape = (max(r[3] for r in rects) + 1, max(r[1] for r in rects) + 1)
        arrays[number] = replace(arrays[number], row=row, shape=shape)
        row += shape[0]
    slab_shape = (row, max(array.shape[1] for array in arrays))
    placed = tuple(_panel(p, arrays[n].row) for p, n in zip(panels, member, strict=True))
    return placed, tuple(arrays), slab_shape


def too_large(slab_shape: tuple[int, int]) -> bool:
    """Whether pixels of a slab cannot be numbered by 32-bit integers."""
    return slab_shape[0] * slab_shape[1] > LARGEST_INT


def _overlaps(rect: tuple[int, int, int, int], others: Iterable[tuple[int, int, int, int]]) -> bool:
    low_fs, high_fs, low_ss, high_ss = rect
    return any(
        low_fs <= other[1] and other[0] <= high_fs and low_ss <= other[3] and other[2] <= high_ss
        for other in others
    )


def _panel(draft: PanelDraft, row: int) -> Panel:
    assert draft.fs is not None
    assert draft.ss is not None
    return Panel(
        name=draft.name,
        min_fs=draft.min_fs,
        max_fs=draft.max_fs,
        min_ss=draft.min_ss,
        max_ss=draft.max_ss,
        corner_x=draft.corner_x,
        corner_y=draft.corner_y,
        fs=draft.fs,
        ss=draft.ss,
        res=draft.res,
        coffset=draft.coffset,
        adu_per_photon=None if draft.gain_per_ev else draft.gain,
        adu_per_ev=draft.gain if draft.gain_per_ev else None,
        max_adu=draft.max_adu,
        data=draft.data,
        dims=draft.dimensions(),
        mask_edge_pixels=draft.mask_edge_pixels,
        masks=tuple(
            MaskSource(m.data, m.file, m.good_bits, m.bad_bits, m.line)
            for _, m in sorted(draft.masks.items())
            if m.data is not None
        ),
        flags=tuple(draft.flags),
        saturation_map=draft.saturation_map,
        saturation_map_file=draft.saturation_map_file,
        no_index=draft.no_index,
        slab_x=draft.min_fs,
        slab_y=row + draft.min_ss,
        lines={"": draft.line, **draft.lines},
    )
