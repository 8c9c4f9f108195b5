# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx merge``: the streams of several processes into one, each frame once."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from gpuidx.errors import StreamError
from gpuidx.flow.output import Output
from gpuidx.flow.stop import interruptible
from gpuidx.stream.merge import Merged, Merger, common_head

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
"""Behind the name of the merged stream until all parts are in it."""

DESCRIPTION = """Join the streams that several gpuidx have written of one source, for instance the ranks of a
job (-o out.%%r.stream).  A frame that is in several parts is taken once; what was cut off in mid-chunk by a
crash is left out.  docs/scale.md says how a frame is recognised."""


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code.

    Raises
    ------
    GpuidxError
        If a part cannot be used, parts do not belong together, or the output cannot be written.
    """
    options = _parser().parse_args(argv)
    head, parts = common_head(options.parts, options.force)
    if Path(options.output).exists():
        raise StreamError(f"{options.output}: this file exists already; remove it, or give another name")
    with interruptible():
        merged = _write(f"{options.output}{UNFINISHED}", head, parts, options.by)
    Path(f"{options.output}{UNFINISHED}").rename(options.output)
    _conclude(merged, options.output, len(parts))
    return 0


def _write(path: str, head: bytes, parts: Sequence[str], by: Sequence[str]) -> Merged:
    """Join parts in a file that is there only if that went to its end."""
    output = Output(path, head)
    try:
        merger = Merger(output, by)
        for part in parts:
            merger.add(part)
        merged = merger.finish()
        output.close()
    except BaseException:
        Path(path).unlink()
        raise
    return merged


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuidx merge", description=DESCRIPTION)
    parser.add_argument("output", metavar="OUT", help="stream to write; must not be there yet")
    parser.add_argument("parts", metavar="PART", nargs="+", help="streams to join")
    parser.add_argument(
        "--by", metavar="NAME", action="append", default=[],
        help="frames are the same if this header value, copied with --copy-header, is; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="join streams with different geometries or target cells"
    )
    return parser


def _conclude(merged: Merged, output: str, n_part: int) -> None:
    log.info(
        "%s: %d frames from %d parts; %d left out: they were there already", output, merged.written, n_part,
        merged.duplicates,
    )  # fmt: skip
    if merged.nameless:
        log.warning(
            "%d frames without a name of the source: none of them was taken for a duplicate", merged.nameless
        )
