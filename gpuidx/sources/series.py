# SPDX-License-Identifier: GPL-3.0-or-later
"""Which messages begin and end a series of frames, told from their first bytes.

Known are DECTRIS Stream V1 (JSON with an ``htype``) and V2 (a CBOR map with a ``type``), Jungfraujoch, which
speaks the latter, and LCLStreamer, which puts a letter in front of it.  All else are frames.
"""

import re
from collections.abc import Sequence

from gpuidx.sources.contract import END, FRAME, START

LONGEST_HEAD = 256
"""Bytes of the first part that are looked at."""

_JSON = re.compile(rb'\s*\{.{0,200}?"htype"\s*:\s*"(dheader|dseries_end)-', re.DOTALL)
_CBOR = re.compile(
    rb"c?(?:\xd9\xd9\xf7)?[\xa1-\xbb\xbf].{0,64}?dtype(?:(estart)|cend|dstop|kcalibration|hmetadata)",
    re.DOTALL,
)


def role(head: bytes) -> str:
    """Whether a message that begins so is a `FRAME`, or the `START` or `END` of a series.

    What Jungfraujoch sends in between, calibration and metadata, counts as an end: no frame needs it.
    """
    head = head[:LONGEST_HEAD]
    if matched := _JSON.match(head):
        return START if matched[1] == b"dheader" else END
    if matched := _CBOR.match(head):
        return START if matched[1] else END
    return FRAME


_NEEDLESS = (b'"dflatfield-', b'"dcountrate_table-')


def worth_keeping(parts: Sequence[memoryview]) -> list[memoryview]:
    """The parts of a start message that are used: of V1 not the flatfield and the count rate table.

    These can be twice as large as a frame.
    """
    kept: list[memoryview] = []
    skip = False
    for part in parts:
        needless = not skip and any(key in bytes(part[:LONGEST_HEAD]) for key in _NEEDLESS)
        if not (skip or needless):
            kept.append(part)
        skip = needless
    return kept
