# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream."""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import BASIC, OUTPUT


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What the stream holds."""

    output: str = option(
        "", "-o", "--output", group=BASIC, metavar="FILE", help="stream file to write; overwritten"
    )
    rank: int | None = option(
        None, group=BASIC, metavar="N",
        help="number of this process among several, for %r in names of files; else that of srun or mpirun",
    )  # fmt: skip
    resume: bool = option(
        False, group=BASIC,
        help="go on with the stream of an earlier run: whole chunks stay, their frames are not done again",
    )  # fmt: skip
    non_hits_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out frames that are no hits")
    copy_header: tuple[str, ...] = option(
        (), "--copy-header", group=OUTPUT, metavar="NAME", repeat=True, hidden=("--copy-hdf5-field",),
        help="copy this value of the frame to the stream; repeatable",
    )  # fmt: skip
    peaks_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out the peak lists")
    refls_in_stream: bool = option(True, group=OUTPUT, off=True, help="leave out the reflection lists")
    serial_start: int = option(1, group=OUTPUT, metavar="N", help="serial number of the first frame")
    harvest_file: str | None = option(
        None, group=OUTPUT, metavar="FILE",
        help="write the parameters of the run to this JSON file, unless --serial-start is above 1",
    )  # fmt: skip
