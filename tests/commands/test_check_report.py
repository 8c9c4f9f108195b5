# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``gpuidx check`` says of each step, from what was found, without sockets and frames."""

from dataclasses import replace

import pytest

from gpuidx.commands.check_record import (
    Arrival,
    CellRow,
    Decoded,
    Free,
    HeaderRow,
    Indexed,
    Integrated,
    MaskShare,
    PeakSummary,
    Pixels,
    Record,
    Times,
)
from gpuidx.commands.check_report import GOOD, NOTHING, SKIPPED, conclusion, sections
from gpuidx.sources.knock import Neighbour

A = "tcp://host:5555"
CELL = CellRow(
    parameters=(79.5, 79.1, 37.9, 90, 90, 90.2), differences=(0.5, 0, 0, 0, 0, 0.2), explained=0.93
)
PIXELS = Pixels(
    shape=(4, 5),
    dtype="int32",
    n_usable=19,
    least=0,
    median=2,
    greatest=90,
    n_saturated=1,
    top=2147483647,
    n_top=3,
)
GOOD_RECORD = Record(
    arrival=Arrival(
        source=A, kind="REQ", asks="request 'next'", connected=0.1, first=0.5, n_frame=1, size=4_200_000
    ),
    headers=(
        HeaderRow(what="photon energy", name="beam_energy", value="9500 eV", result="9500 eV, 1.3051 Å"),
    ),
    decoded=Decoded(format="MsgPack, recognised", pixels=PIXELS),
    masks=MaskShare(20, 1, (("mask files", 1),)),
    peaks=PeakSummary(method="peakfinder8", least=10, n_peak=30, resolution=(38.0, 2.0), snr=(4, 7, 15)),
    indexed=Indexed(wanted=True, has_target=True, n_tries=1, n_candidate=1, crystals=(CELL,)),
    integrated=Integrated(wanted=True, n_reflection=462, n_saturated=3, i_over_sigma=2.6, resolution=2.15),
    times=Times({"decode": 0.002, "peaks": 0.008, "trials": 1e-9}, 8, "backend: cpu"),
)


def said(record):
    """Texts by step."""
    return {section.step: section for section in sections(record)}


def text(record):
    """All of it, on one line."""
    return " ".join(" ".join(section.text() for section in sections(record)).split())


def test_all_figures_of_a_good_frame_are_told():
    whole = text(GOOD_RECORD)
    for part in (
        "ok connected tcp://host:5555: REQ socket, request 'next'",
        "connected after 0.10 s, first message after 0.50 s 1 frame, 4.2 MB",
        "4 × 5 pixels (ss × fs), int32 usable ones: least 0, median 2, greatest 90 ADU",
        "saturated (above max_adu): 1; 3 at the type's greatest value 2147483647",
        "photon energy 'beam_energy': 9500 eV, that is 9500 eV, 1.3051 Å",
        "1 of 20 pixels are bad, 5 % mask files: 1, 5 %",
        "30 peaks (--peaks=peakfinder8); a hit has --min-peaks=10 from 38 to 2 Å",
        "signal to noise: median 7, 5 % below 4, 5 % above 15",
        "1 attempt with the target cell: 1 lattice found, 1 accepted",
        "cell 79.50 79.10 37.90 Å, 90.00 90.00 90.20°, explains 93 % of the peaks",
        "against the target: +0.50 +0.00 +0.00 %, +0.00 +0.00 +0.20°",
        "462 reflections, left out: 3 saturated, 0 implausible median I/sigma 2.6, resolution limit 2.15 Å",
        "decode 2.0 ms, peaks 8.0 ms 10.0 ms on one core; -j 8 gives 800 such frames/s at most",
    ):
        assert part in whole, whole
    assert "cause" not in whole
    assert {section.state for section in sections(GOOD_RECORD)} == {GOOD}
    assert conclusion(sections(GOOD_RECORD)) == "all steps gave something"


def away(ours, **who):
    """A source with no connection; *who* is at its address."""
    return Arrival(source=A, kind=ours, waited=10, neighbours=((A, Neighbour(**who)),))


SILENT = Arrival(source=A, kind="SUB", asks="tag 'x'", connected=0.1, waited=10)

ARRIVALS = {
    "nobody listens": (
        away("REQ", problem="connection refused"),
        "nobody listens there (connection refused)",
    ),
    "no host": (away("REQ", problem="no route to host"), "cannot be reached (no route to host)"),
    "not ZeroMQ": (away("REQ"), "does not speak ZeroMQ"),
    "PUB, not REP": (away("REQ", mechanism="NULL", kind="PUB"), "its socket is PUB, which does not suit"),
    "PUB, its option": (away("REQ", mechanism="NULL", kind="XPUB"), "give --zmq-subscribe=TAG"),
    "REP, its option": (away("SUB", mechanism="NULL", kind="ROUTER"), "give --zmq-request=next"),
    "PUSH, its option": (away("SUB", mechanism="NULL", kind="PUSH"), "give --zmq-pull"),
    "a reader": (away("SUB", mechanism="NULL", kind="SUB"), "it is no sender"),
    "encrypted": (away("SUB", mechanism="CURVE"), "give its public key with --zmq-server-key"),
    "not encrypted": (
        replace(away("SUB", mechanism="NULL", kind="PUB"), encrypted=True),
        "the sender does not encrypt",
    ),
    "wrong key": (replace(away("SUB", mechanism="CURVE"), encrypted=True), "the sender refuses"),
    "slow": (away("SUB", mechanism="NULL", kind="PUB"), "no connection was made in this time"),
    "nobody connects": (Arrival(source=A, kind="PULL", bound=True, waited=10), "no sender has connected"),
    "wrong tag": (replace(SILENT, heard=b"ondaframedata"), "give --zmq-subscribe=ondaframedata"),
    "tag of bytes": (replace(SILENT, heard=b"\x81\xa1"), r"they begin with b'\x81\xa1'"),
    "nothing published": (SILENT, "nothing is published at this time, under any tag"),
    "no answer": (replace(SILENT, kind="REQ"), "OM answers with its next hit"),
    "empty stream": (
        replace(SILENT, kind="ASAP::O", streams=(("run1", 6),)),
        "the stream has no messages; the source has 'run1' with 6 messages",
    ),
    "no stream": (replace(SILENT, kind="ASAP::O"), "its name (--asapo-source) is wrong"),
    "nothing pushed": (replace(SILENT, kind="PULL"), "nothing is pushed at this time"),
    "too large": (
        replace(SILENT, refused=("too large", "9 bytes; give more with --slot-size")),
        "--slot-size",
    ),
    "empty list": (Arrival(source="files of l", kind="files"), "the list names no file"),
}


@pytest.mark.parametrize(("arrival", "cause"), ARRIVALS.values(), ids=ARRIVALS)
def test_why_no_frame_came_is_told(arrival, cause):
    (section,) = sections(Record(arrival=arrival))
    assert section.state == NOTHING
    assert any(cause in one for one in section.causes), section.causes
    assert conclusion([section]).startswith("nothing at: connected; not reached: decoded, header values")


MISSING = HeaderRow(
    what="camera length", name="clen", problem="'clen' is not in the message; did you mean 'cl'?"
)
NONE = PeakSummary(method="peakfinder8", least=10, n_peak=0, threshold=800, highest=(77.0, "panel p", 3.0))
LOST = Indexed(wanted=True, has_target=True, n_tries=6)
FREE = Free(cell=replace(CELL, differences=None), clen=0.062, photon_energy=9500)

STEPS = {
    "no format": (
        "decoded",
        {"decoded": Decoded(format="x", rejected=("not a map", "nil"))},
        "damaged message",
    ),
    "other detector": (
        "decoded",
        {"decoded": Decoded(format="x", rejected=("wrong shape", ""))},
        "another detector",
    ),
    "no image": (
        "decoded",
        {"decoded": Decoded(format="x", rejected=("missing key", ""))},
        "'data' of the geometry",
    ),
    "no header": (
        "decoded",
        {"decoded": Decoded(format="x", rejected=("missing key", "clen")), "headers": (MISSING,)},
        "header values are missing, see there",
    ),
    "header": ("header values", {"headers": (MISSING,)}, "the geometry asks for 'clen'"),
    "masked": ("masks", {"masks": MaskShare(9, 9, (("edges", 2), ("mask files", 9)))}, "most by: mask files"),
    "no peaks": ("peaks", {"peaks": NONE}, "no pixel is above --threshold=800; the highest has 77"),
    "remedy": (
        "peaks",
        {"peaks": replace(NONE, remedies=(("--min-snr=4", 12),))},
        "--min-snr=4 would give 12",
    ),
    "blank": ("peaks", {"peaks": replace(NONE, threshold=10)}, "--threshold or --min-snr too high"),
    "few": ("peaks", {"peaks": replace(NONE, threshold=10, n_peak=9)}, "fewer than --min-peaks=10"),
    "empty list": ("peaks", {"peaks": replace(NONE, n_sent=0)}, "the list that came with the frame is empty"),
    "refused list": ("peaks", {"peaks": replace(NONE, n_sent=40)}, "of 40 peaks that were sent 0 passed"),
    "peaks=none": ("peaks", {"peaks": replace(NONE, method="none")}, "nothing is looked for"),
    "refused": ("indexed", {"indexed": replace(LOST, n_candidate=1)}, "--tolerance too tight"),
    "check": (
        "indexed",
        {"indexed": replace(LOST, n_candidate=1, remedies=("--no-check-cell",))},
        "--no-check-cell would take it",
    ),
    "no lattice": ("indexed", {"indexed": replace(LOST, free=Free())}, "no lattice of any cell"),
    "no target": ("indexed", {"indexed": replace(LOST, has_target=False)}, "peaks that are not Bragg peaks"),
    "other cell": ("indexed", {"indexed": replace(LOST, free=FREE)}, "is -p the cell of this sample?"),
    "wrong clen": (
        "indexed",
        {"indexed": replace(LOST, free=replace(FREE, better_clen=0.05636))},
        "56.36 mm instead of 62 mm the frame is indexed with the target cell; now axes come out 1.1 times",
    ),
    "no reflections": ("integrated", {"integrated": Integrated(wanted=True)}, "nothing is predicted"),
    "all left out": ("integrated", {"integrated": Integrated(wanted=True, n_saturated=4)}, "max_adu"),
}


@pytest.mark.parametrize(("step", "change", "cause"), STEPS.values(), ids=STEPS)
def test_why_a_step_gives_nothing_is_told(step, change, cause):
    section = said(replace(GOOD_RECORD, **change))[step]
    assert section.state == NOTHING
    assert any(cause in one for one in section.causes), section.causes


def test_what_was_not_asked_for_is_no_fault():
    record = replace(
        GOOD_RECORD, indexed=Indexed(wanted=False, has_target=False), integrated=Integrated(wanted=False)
    )
    assert said(record)["indexed"].state == said(record)["integrated"].state == SKIPPED
    assert conclusion(sections(record)) == "all steps gave something"


def test_a_copied_header_may_be_missing():
    rows = (*GOOD_RECORD.headers, replace(MISSING, needed=False))
    section = said(replace(GOOD_RECORD, headers=rows))["header values"]
    assert section.state == GOOD
    assert "did you mean 'cl'?" in section.text()


def test_lines_are_not_too_long():
    record = replace(GOOD_RECORD, indexed=replace(LOST, free=replace(FREE, better_clen=0.05636)))
    assert max(len(line) for section in sections(record) for line in section.text().splitlines()) <= 120
