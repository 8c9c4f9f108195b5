# SPDX-License-Identifier: GPL-3.0-or-later
"""The role of a message, by its first bytes, for every sender; and for anything else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.simulation import encode_dectris as dectris
from gpuidx.simulation import encode_jungfraujoch as jungfraujoch
from gpuidx.simulation import encode_lclstreamer as lclstreamer
from gpuidx.sources.contract import END, FRAME, START
from gpuidx.sources.series import LONGEST_HEAD, role, worth_keeping

COUNTS = np.ones((16, 16), "<u2")

MESSAGES = [
    (dectris.v1_start(1, {"photon_energy": 1.0}), START),
    (dectris.v1_image(COUNTS), FRAME),
    (dectris.v1_end(), END),
    ([b'{"header_detail": "none", "htype":"dheader-1.0"}'], START),
    (dectris.v2_start({"incident_energy": 1.0}), START),
    (dectris.v2_image({"a": COUNTS}), FRAME),
    (dectris.v2_end(), END),
    (jungfraujoch.start({}), START),
    (jungfraujoch.image(COUNTS), FRAME),
    (jungfraujoch.end(), END),
    (jungfraujoch.early_start(), START),
    (jungfraujoch.early_image(COUNTS), FRAME),
    (jungfraujoch.early_end(), END),
    ([b"\xbfdtypekcalibrationlmagic_number\x01\xff"], END),
    ([b"\xbfdtypehmetadatalmagic_number\x01\xff"], END),
    (lclstreamer.start((16, 16), "float64"), START),
    (lclstreamer.image(COUNTS.astype("f8")), FRAME),
    (lclstreamer.stop(), END),
    ([b"\x82dtypeestart"], FRAME),
    ([b'\x89HDF\r\n\x1a\n{"htype":"dheader-1.0"}'], FRAME),
    ([b""], FRAME),
]


@pytest.mark.parametrize(("parts", "expected"), MESSAGES)
def test_the_role_of_a_message(parts, expected):
    assert role(parts[0][:LONGEST_HEAD]) == expected


@given(st.binary(max_size=300))
def test_any_bytes_have_a_role(head):
    assert role(head) in (FRAME, START, END)


def test_flatfield_and_count_rate_table_are_not_kept():
    parts = dectris.v1_start(1, {"a": 1}, np.zeros((16, 16), "<u4"), b"appendix")
    kept = worth_keeping([memoryview(part) for part in parts])
    assert [bytes(part) for part in kept] == [*parts[:2], *parts[4:6], b"appendix"]


def test_all_else_is_kept():
    parts = [memoryview(part) for part in dectris.v2_start({})]
    assert worth_keeping(parts) == parts
