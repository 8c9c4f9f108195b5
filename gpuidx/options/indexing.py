# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing."""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import INDEXING, numbers, tolerance


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """Indexing trials, checks and refinement."""

    indexing: str | None = option(
        None, "--indexing", group=INDEXING, metavar="METHODS", hidden=("-z",),
        help="none; file (needs --fromfile-input-file); or any of CrystFEL's other methods: all mean "
        "gpuidx's own engine",
    )  # fmt: skip
    fromfile_input_file: str | None = option(
        None, group=INDEXING, metavar="FILE", help="with --indexing=file: take the crystals from this file"
    )
    pdb: str | None = option(
        None, "-p", "--pdb", group=INDEXING, metavar="FILE", help="unit cell, as .cell or PDB file"
    )
    tolerance: tuple[float, ...] = option(
        (5.0, 5.0, 5.0, 1.5, 1.5, 1.5), group=INDEXING, metavar="A,B,C,AL,BE,GA", type=tolerance,
        help="greatest difference from the target cell, percent and degrees",
    )  # fmt: skip
    axis_range: tuple[float, ...] | None = option(
        None, group=INDEXING, metavar="MIN,MAX", type=numbers(2),
        help="without -p: axes of the primitive cell to look for, Å; else from the peaks, up to 400",
    )  # fmt: skip
    consensus_cell: bool = option(
        False, group=INDEXING, help="without -p: use the cell that frames agree on, as soon as enough do"
    )
    save_cell: str | None = option(
        None, group=INDEXING, metavar="FILE",
        help="without -p: write the cell that frames agree on to this .cell file; overwritten",
    )  # fmt: skip
    check_cell: bool = option(True, group=INDEXING, switch=True, help="take lattices of any cell")
    multi: bool = option(False, group=INDEXING, switch=True, help="look for further lattices in each frame")
    retry: bool = option(True, group=INDEXING, switch=True, help="do not try again without the weakest peaks")
    refine: bool = option(True, group=INDEXING, switch=True, help="do not refine against peak positions")
    check_peaks: bool = option(
        True, group=INDEXING, switch=True, help="take lattices that explain only few of the peaks"
    )
    refine_shift: bool = option(
        False, group=INDEXING, help="fit the shift of the detector for each crystal, use and report it"
    )
    mille: bool = option(False, group=INDEXING, help="write data for align_detector (Millepede-II)")
    mille_dir: str = option(".", group=INDEXING, metavar="FOLDER", help="folder for them, made if absent")
    mille_file: str = option(
        "mille-data.bin", group=INDEXING, metavar="FILE", help="file for them in that folder; overwritten"
    )
    max_mille_level: int = option(
        99, group=INDEXING, metavar="N", help="with --mille: depth of the smallest groups of panels"
    )
    wavelength_estimate: float | None = option(
        None, group=INDEXING, metavar="M", help="warn about frames that differ by more than 10 percent"
    )
    camera_length_estimate: float | None = option(
        None, group=INDEXING, metavar="M", help="warn about frames that differ by more than 10 percent"
    )
