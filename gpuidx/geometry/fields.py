# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of a panel in a geometry file: what each does to a `PanelDraft`.

Top-level statements, bad regions and groups are in `gpuidx.geometry.parser`.
"""

import math
import re
from collections.abc import Callable

import numpy as np

from gpuidx.geometry.description import FlagRule
from gpuidx.geometry.lexer import LARGEST_INT, Remarks, Statement, direction, read_integer, read_number
from gpuidx.geometry.panels import MaskDraft, PanelDraft

MOST_FLAGS = 16
MOST_DIMS = 16
LARGEST_BITS = 0xFFFFFFFF

_MASK = re.compile(r"mask([0-7])_(file|data|goodbits|badbits)", re.ASCII)
_OLD_MASK = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}
_DIMENSION = re.compile(r"dim[ \t\n\v\f\r]*\+?([0-9]+)", re.ASCII)
_NO_INDEX = re.compile(r"-[0-9]+|[0-9]{10,}", re.ASCII)
_FIXED_INDEX = re.compile(r"[0-9]{0,9}", re.ASCII)


class Refused(Exception):  # noqa: N818  (a value that travels to the list of errors)
    """A statement for which the whole file is refused."""


def quoted(statement: Statement) -> str:
    """A statement as it is shown in errors: ``p0/fs = '+0.0z'``."""
    owner = f"{statement.owner}/" if statement.owner is not None else ""
    return f"{owner}{statement.key} = '{_short(statement.value or '')}'"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def number(statement: Statement, warnings: Remarks) -> float:
    """A number as C's ``atof`` reads it: what follows is ignored, no number at all is 0."""
    value, rest = read_number(statement.value or "")
    if rest or not statement.value:
        warnings.add(statement.line, f"{quoted(statement)} is read as {value:g}", f"number {statement.key}")
    return value


def pixel_index(statement: Statement, warnings: Remarks) -> int:
    """A number cut to an integer, as CrystFEL does.

    Raises
    ------
    Refused
        If it is no integer of 32 bits.
    """
    value = number(statement, warnings)
    if not (math.isfinite(value) and abs(value) <= LARGEST_INT):
        raise Refused(f"{quoted(statement)} is no pixel number")
    if not value.is_integer():
        warnings.add(
            statement.line, f"{quoted(statement)} is cut to {int(value)}", f"integer {statement.key}"
        )
    return int(value)


def set_field(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    """Do to *panel* what the statement says; an unknown field is a warning.

    Raises
    ------
    Refused
        If the file is to be refused.
    """
    key = statement.key
    if key in _SETTERS:
        _SETTERS[key](panel, statement, warnings)
    elif key in _OLD_MASK:
        new = Statement(statement.line, statement.owner, _OLD_MASK[key], statement.value)
        try:
            _set_mask(panel, new)
        except Refused as refused:  # CrystFEL refuses only by the new names
            warnings.add(statement.line, f"{refused}; the line has no effect", f"old {key}")
    elif key.startswith("mask"):
        _set_mask(panel, statement)
    elif key.startswith("dim"):
        _set_dimension(panel, statement, warnings)
    elif key == "clen":
        raise Refused(f"{quoted(statement)}: clen holds for the whole detector; give it without a panel")
    elif key == "badrow_direction":
        warnings.add(statement.line, "badrow_direction has no effect", key)
    else:
        warnings.add(statement.line, f"unknown field '{_short(key)}' has no effect", f"unknown {key}")


def _set_index(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    setattr(panel, statement.key, 0)  # so that a bad value is not reported as missing, too
    setattr(panel, statement.key, pixel_index(statement, warnings))
    panel.lines[statement.key] = statement.line


def _set_number(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    setattr(panel, statement.key, number(statement, warnings))
    panel.lines[statement.key] = statement.line


def _set_text(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    if not statement.value:
        warnings.add(statement.line, f"{statement.key} is empty", f"empty {statement.key}")
    setattr(panel, statement.key, statement.value)
    panel.lines[statement.key] = statement.line


def _set_gain(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    panel.gain = number(statement, warnings)
    panel.gain_per_ev = statement.key == "adu_per_eV"
    panel.lines["gain"] = statement.line


def _set_direction(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    panel.lines[statement.key] = statement.line
    try:
        vector, odd = direction(statement.value or "")
    except ValueError as error:
        raise Refused(f"{quoted(statement)}: {error}; expected for instance '+1.0x -0.002y'") from None
    if odd:
        x, y, z = vector
        warnings.add(
            statement.line, f"{quoted(statement)} is read as {x:+g}x {y:+g}y {z:+g}z", f"odd {statement.key}"
        )
    setattr(panel, statement.key, vector)


def _set_flag(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    value = number(statement, warnings)
    if len(panel.flags) >= MOST_FLAGS:
        raise Refused(f"{quoted(statement)} is one flag too many; a panel can have {MOST_FLAGS}")
    if math.isnan(value):
        warnings.add(statement.line, f"{quoted(statement)} has no effect", "flag nan")
        return
    with np.errstate(over="ignore"):
        kept = float(np.float32(value))
    # CrystFEL keeps flag values as integers; beyond 32 bits, where it gets nonsense, the value stays.
    if abs(kept) <= LARGEST_INT and not kept.is_integer():
        kept = float(int(kept))
        warnings.add(statement.line, f"{quoted(statement)} is cut to {kept:g}", f"integer {statement.key}")
    panel.flags.append(FlagRule(statement.key.removeprefix("flag_"), kept))
    panel.lines["flags"] = statement.line


def _set_edge(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    width, rest = read_integer(statement.value or "")
    if rest:
        raise Refused(f"{quoted(statement)} is no integer")
    panel.mask_edge_pixels = width
    panel.lines[statement.key] = statement.line


def _set_no_index(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    word = (statement.value or "").lower()
    if word in ("true", "false"):
        panel.no_index = word == "true"
    else:
        value, rest = read_integer(word)
        panel.no_index = value != 0
        if rest or not word:
            warnings.add(
                statement.line,
                f"{quoted(statement)} is read as {'true' if panel.no_index else 'false'}",
                "no_index",
            )
    panel.lines[statement.key] = statement.line


def _set_mask(panel: PanelDraft, statement: Statement) -> None:
    found = _MASK.fullmatch(statement.key)
    if found is None:
        raise Refused(
            f"'{_short(statement.key)}' is not understood; expected maskN_data, maskN_file, maskN_goodbits "
            "or maskN_badbits with N from 0 to 7"
        )
    which, what, value = int(found[1]), found[2], statement.value or ""
    mask = panel.masks.setdefault(which, MaskDraft(line=statement.line))
    panel.lines[f"mask{which}"] = mask.line = statement.line
    if what == "file":
        mask.file = value
    elif what == "data":
        if not value.startswith("/"):
            raise Refused(f"{quoted(statement)} is no path; it must begin with a slash")
        mask.data = value
    elif what == "goodbits":
        mask.good_bits = _bits(statement)
    else:
        mask.bad_bits = _bits(statement)


def _bits(statement: Statement) -> int:
    text = statement.value or ""
    value, rest = read_number(text)
    if rest == text or not math.isfinite(value):
        raise Refused(f"{quoted(statement)} is no number; expected for instance 0xffff")
    return int(value) & LARGEST_BITS


def _set_dimension(panel: PanelDraft, statement: Statement, warnings: Remarks) -> None:
    found = _DIMENSION.fullmatch(statement.key)
    value = statement.value or ""
    if found is None or int(found[1][:9]) >= MOST_DIMS:
        text = f"'{_short(statement.key)}' has no effect; expected dim0 to dim{MOST_DIMS - 1}"
        warnings.add(statement.line, text, f"dim {statement.key}")
    elif value in ("fs", "ss", "%"):
        panel.dims[int(found[1])] = value
        panel.lines["dims"] = statement.line
    elif _FIXED_INDEX.fullmatch(value):
        panel.dims[int(found[1])] = int(value or 0)
        panel.lines["dims"] = statement.line
    elif _NO_INDEX.fullmatch(value):  # CrystFEL takes some of them for its codes of fs, ss and so on
        raise Refused(f"{quoted(statement)} is no index; expected fs, ss, % or a number from 0")
    else:
        text = f"{quoted(statement)} has no effect; expected fs, ss, % or a number from 0"
        warnings.add(statement.line, text, f"dim value {value}")


_SETTERS: dict[str, Callable[[PanelDraft, Statement, Remarks], None]] = {
    **dict.fromkeys(("min_fs", "max_fs", "min_ss", "max_ss"), _set_index),
    **dict.fromkeys(("corner_x", "corner_y", "coffset", "res", "max_adu"), _set_number),
    **dict.fromkeys(("adu_per_photon", "adu_per_eV"), _set_gain),
    **dict.fromkeys(("data", "saturation_map", "saturation_map_file"), _set_text),
    **dict.fromkeys(("fs", "ss"), _set_direction),
    **dict.fromkeys(("flag_equal", "flag_lessthan", "flag_morethan"), _set_flag),
    "mask_edge_pixels": _set_edge,
    "no_index": _set_no_index,
}
