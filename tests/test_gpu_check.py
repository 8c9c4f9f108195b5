# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/gpu-check`: every part of it on a pretended device, and what is computed without one."""

import importlib
import json
import math
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emulator import need, program

from gpuidx.backends.cuda.traffic import (
    CARDS,
    Work,
    bounds,
    decoding_traffic,
    search_traffic,
    total,
    transfer,
)
from gpuidx.model import Found, PeakList

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "gpu-check"
KERNELS = {
    "sort_by_ring", "clip_rings", "list_candidates", "grow_peaks", "collect_peaks", "order_by_strength",
    "scattering_vectors",
}  # fmt: skip

TOOL = """#!/bin/sh
# stands for compute-sanitizer: memcheck finds nothing, nothing else works here
case "$*" in
  *"--tool memcheck"*) ;;
  *) echo "========= Error: Device not supported"; exit 1 ;;
esac
while [ "$1" != "-m" ]; do python="$1"; shift; done
echo "========= COMPUTE-SANITIZER"
"$python" "$@" || exit 1
echo "========= ERROR SUMMARY: 0 errors"
"""


@pytest.fixture
def parts(monkeypatch):
    """The folder of the script's parts on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def run_script(folder, *words, tool=None):
    environment = os.environ | program.environment() | {"GPUIDX_PYTHON": sys.executable}
    if tool is not None:
        path = folder / "bin" / "compute-sanitizer"
        path.parent.mkdir()
        path.write_text(tool)
        path.chmod(0o755)
        environment["PATH"] = f"{path.parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        [SCRIPT, "--tiny", "--out", folder / "out", *words],
        capture_output=True, text=True, env=environment, check=False, cwd=folder, timeout=280,
    )  # fmt: skip


def test_every_part_works_on_a_pretended_device(tmp_path):
    need("g++", "cupy")
    done = run_script(tmp_path, tool=TOOL)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
    assert "broken" not in data
    assert (data["parity"]["runs"], data["parity"]["left_out"], data["parity"]["over"]) == (3, 0, 1)
    assert data["parity"]["peaks"] > 500
    assert data["parity"]["vectors"] >= data["parity"]["peaks"]
    assert data["sanitizer"]["memcheck"] == "clean: ERROR SUMMARY: 0 errors"
    assert data["sanitizer"]["racecheck"].startswith(
        "NOT RUN: it cannot work here (Error: Device not supported"
    )
    for times in data["start"].values():
        assert times["to_first_result_s"] > 0
    assert data["start"]["filled cache of kernels"]["hit_99_percent_ms"] > 0
    assert [result["case"]["n_frame"] for result in data["rates"]] == [32, 1]
    for result in data["rates"]:
        assert set(result["kernels"]) == KERNELS
        assert result["path"]["frames_per_s"] > 0
        assert result["copied_bytes"] == [result[way]["bytes"] for way in ("upload", "download")]
    assert data["rates"][0]["peaks_a_frame"] > 50
    made = data["trials"]["made-up lists"]
    assert (made["lists"], made["lattices"], made["bits"], made["left_out"]) == (6, 5, 5, [])
    assert made["sets"]["lat2"]["right"] == made["sets"]["few10"]["right"] == 1
    assert made["sets"]["lat2"]["found"] == 2
    rates = {(one["kind"], one["n_list"]): one for one in data["trial_rates"]}
    assert set(rates) == {("hits", 2), ("random", 2), ("hits", 1)}
    assert rates["hits", 2]["indexed"] == 2
    assert rates["hits", 2]["times"]["rounds"] == 1
    assert rates["random", 2]["times"]["rounds"] > 1
    assert [path["case"]["n_frame"] for path in data["trial_paths"]] == [5]
    assert data["trial_paths"][0]["indexed"] == pytest.approx(0.2, abs=0.04)
    assert (data["packed"]["frames"], data["packed"]["differences"]) == (36, [])
    assert (data["axes"]["searches"], data["axes"]["left"], data["axes"]["apart"]) == (2, 0, [])
    assert [one["n_list"] for one in data["axes_rates"]] == [2, 1]
    assert [one["way"] for one in data["service"]] == ["compressed", "plain"]
    for one in data["service"]:
        assert one["left_to_cpu"] == 0
        assert 0 < one["offered_frames_per_s"] < one["frames_per_s"]
        assert 0 < one["median_ms"] <= one["late_ms"]
        assert one["indexed"] > 0
    assert 3 < data["decoding"][0]["compression"] < 7
    assert sum(data["damage"]["outcomes"].values()) == 12
    assert data["damage"]["faults"] == []


def test_a_part_that_fails_is_told_and_keeps_no_other_from_its_work(parts, tmp_path, monkeypatch):
    from gpu_check import __main__, environment
    from gpu_check.plan import TINY
    from gpu_check.report import Report

    def do(name):
        done.append(name)
        if name.endswith("parity.check_all"):
            raise RuntimeError("the device is lost")

    report, done = Report(tmp_path, 10.0), []
    monkeypatch.setattr(environment, "describe", lambda *_: True)
    for name in __main__.PARTS:
        module, function = name.split(".")
        target = importlib.import_module(f"gpu_check.{module}")
        monkeypatch.setattr(target, function, lambda *_, name=name: do(name))
    __main__._run_all(report, TINY, 0)
    assert done == list(__main__.PARTS)
    assert report.failures == [
        f"{name}.check_all ended with RuntimeError: the device is lost"
        for name in ("parity", "packed_parity", "axes_parity", "trial_parity")
    ]
    assert report.data["goals"]


class Time:
    """Stands for the module: time goes on only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_frame_that_waits_for_a_slot_has_arrived_already(parts, monkeypatch):
    from gpu_check import feed

    clock = Time()
    monkeypatch.setattr(feed, "time", clock)
    one = feed.Feed([("first",), ("second",)], 4, 100.0, speed=10.0)
    assert one.poll(None) == [(0, 0, "first")]
    assert one.poll(None) == [(1, 1, "second")]
    assert clock.now == pytest.approx(0.1)
    clock.now = 0.35
    assert one.poll(0.0) == []
    one.answer(0, "found")
    one.answer(1, "on the CPU", "why")
    assert one.poll(None) == [(2, 0, "first"), (3, 1, "second")]
    clock.now = 0.6
    assert one.poll(0.4) == []
    one.answer_all([(2, "found"), (3, "found")])
    assert one.poll(None) is None
    assert one.latencies == pytest.approx([1.0 - 0.2, 1.0 - 0.3])
    assert one.frames_per_s == pytest.approx(2 / (1.0 - 0.35))
    assert one.answers == {"found": 3, "on the CPU": 1}


def test_every_compared_case_has_peaks(parts):
    from gpu_check.cases import GROUPS, for_cpu, small_run

    from gpuidx.backends.cpu.peakfinder8 import PeakFinder

    for run in [make() for make in GROUPS.values()] + [small_run(number) for number in (1, 2)]:
        finder = PeakFinder(run.geometry, run.options, run.masks)
        assert sum(len(finder.find(for_cpu(frame))) for frame in run.batches[0]) > 10, run.name


def test_a_report_from_a_pretended_device_cannot_be_taken_for_a_measurement(tmp_path):
    need("g++", "cupy")
    done = run_script(tmp_path, "--device", "5")
    lines = (tmp_path / "out" / "gpu-check.txt").read_text().splitlines()
    data = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
    assert data["pretended_device"] is True
    assert lines[0] == lines[-1]
    assert lines[0].startswith("PRETENDED DEVICE")
    assert done.returncode == 1
    assert "device 5" in data["failures"][0]


def test_goals_are_not_judged_on_a_pretended_device(parts, tmp_path):
    from gpu_check import verdict
    from gpu_check.report import Report

    report = Report(tmp_path, 10.0)
    report.pretended = True
    report.data["start"] = {"filled cache of kernels": {"to_first_result_s": 1.0}}
    verdict.judge(report)
    words = {goal["what"]: goal["verdict"] for goal in report.data["goals"]}
    assert words.pop("computed traffic of device memory, bytes a pixel") == "met"
    assert set(words.values()) == {"not measured"}


def test_goals_are_judged_by_the_figures(parts, tmp_path):
    from gpu_check import verdict
    from gpu_check.report import Report

    report = Report(tmp_path, 10.0)
    case = {"side": 2048, "dtype": "u2", "content": "all hits", "n_frame": 32}
    times = {"search": {"ms": 3.3}, "upload": {"ms": 6.4}, "path": {"ms_a_frame": 0.203}}
    report.data["rates"] = [{"case": case, **times}]
    report.data["start"] = {"filled cache of kernels": {"to_first_result_s": 4.2}}
    paths = {"case": case | {"content": "20 % hits", "n_frame": 64}, "frames_per_s": 5100.0}
    report.data["service"] = [
        paths | {"way": "plain", "frames_per_s": 100.0, "median_ms": 1000.0, "late_ms": 1000.0},
        paths | {"way": "compressed", "median_ms": 40.0, "late_ms": 310.0},
    ]
    verdict.judge(report)
    words = {goal["what"]: goal["verdict"] for goal in report.data["goals"]}
    assert words["compressed slots to candidate lattices, 4M, 20 % hits, frames/s"] == "met"
    assert words["latency at 80 % of that, 4M, median, ms"] == "met"
    assert words["latency at 80 % of that, 4M, 99 %, ms"] == "MISSED"
    assert words["compressed slots to candidate lattices, 16M, 20 % hits, frames/s"] == "not measured"
    assert words["peak search from device memory, all hits, ms a frame"] == "MISSED"
    assert words["whole path over upload alone, all hits, ratio"] == "met"
    assert words["peak search from device memory, blank, ms a frame"] == "not measured"
    assert words["first result of a warm start, s"] == "met"
    assert not report.failures


def test_the_first_differing_peak_is_named(parts):
    from gpu_check.parity import first_difference

    fs = np.array([1.5, 2.5, 3.5])
    peaks = PeakList(fs=fs, ss=fs + 1, panel=np.zeros(3, np.int32), intensity=100 * fs)
    other = replace(peaks, intensity=np.nextafter(peaks.intensity, [0.0, np.inf, np.inf]))
    same, wrong, short = (
        Found(peaks=p, candidates=None, n_tries=0) for p in (peaks, other, peaks.select(np.array([0])))
    )
    assert first_difference([same, None], [peaks, peaks]) == ""
    text = first_difference([same, None, wrong], [peaks] * 3)
    assert text.startswith("frame 2: 3 peaks, on the CPU 3; first differing: peak 0 ")
    assert "is [1.5, 2.5, 0, 149.99999999999997], on the CPU [1.5, 2.5, 0, 150.0]" in text
    assert "1 peaks, on the CPU 3; first differing: peak 1 " in first_difference([short], [peaks])


SAME = "no difference in 9 frames\n========= "


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        (SAME + "ERROR SUMMARY: 0 errors", 0, "clean: ERROR SUMMARY: 0 errors"),
        (SAME + "ERROR SUMMARY: 3 errors", 0, "errors: ERROR SUMMARY: 3 errors"),
        (SAME + "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0, "clean: RACECHECK"),
        (SAME + "RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)", 0, "errors: RACECHECK"),
        ("small case 0: frame 1\n========= ERROR SUMMARY: 0 errors", 1, "errors: "),
        ("========= Error: Device not supported\n========= ERROR SUMMARY: 1 error", 1, "NOT RUN: it cannot"),
        ("Segmentation fault", 139, "NOT RUN: no summary (code 139)"),
    ],
)
def test_what_compute_sanitizer_says_is_understood(parts, output, code, expected):
    from gpu_check.sanitizer import verdict

    assert verdict(output, code).startswith(expected)


def test_missing_packages_are_installed_from_wheels(parts, tmp_path, monkeypatch):
    from gpu_check import needs

    name = "gpuidx_made_up"
    with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "answer = 42\n")
        wheel.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setattr(needs, "PACKAGES", needs.PACKAGES | {name: "gpuidx-made-up"})
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("PYTHONPATH", "")
    assert needs.missing_packages() == [name]
    lines = []
    needs.install(tmp_path, tmp_path / "target", lines)
    assert needs.missing_packages() == []
    assert lines == [f"installed from {tmp_path}: {name}-1.0-py3-none-any.whl"]
    assert os.environ["PYTHONPATH"].startswith(str(tmp_path / "target"))


def test_nothing_is_imported_that_the_script_does_not_ask_for(parts):
    from gpu_check import needs

    code = (
        "import sys, numba; had = set(sys.modules)\n"
        "from gpu_check import axes_parity, computed, environment, packed_parity, packed_rates\n"
        "from gpu_check import parity, rates, sanitizer, start, trial_parity, trial_rates, verdict\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - had})"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    ours = {"gpu_check", "gpuidx", "backends"}
    asked = set(needs.PACKAGES) | {"llvmlite"} | set(sys.stdlib_module_names)
    assert {name for name in done.stdout.split() if name in ours} == ours
    assert {name for name in done.stdout.split() if not name.startswith("_")} - ours - asked == set()


@pytest.mark.parametrize("side", [1024, 2048, 4096])
@pytest.mark.parametrize("n_frame", [8, 32, 128])
def test_16_bit_frames_move_18_bytes_a_pixel_of_device_memory_at_most(side, n_frame):
    work = Work.square(side, 2, n_frame, n_candidate=1000, n_peak=100)
    assert 16.0 < total(search_traffic(work)).moved / (n_frame * work.n_pixel) <= 18.0


@pytest.mark.parametrize("itemsize", [2, 4])
def test_transfers_are_the_frame_and_one_percent_at_most(itemsize):
    work = Work.square(1024, itemsize, 32, n_panel=128)
    up, down = transfer(work, n_detector=32)
    assert work.n_frame * work.frame_bytes < up + down <= 1.01 * work.n_frame * work.frame_bytes


def test_lanes_without_a_frame_cost_as_much_as_those_with_one():
    full, part = (search_traffic(Work.square(512, 2, n))["clip_rings"].read for n in (32, 9))
    assert math.isclose(full, part, rel_tol=1e-12)


def test_of_few_frames_the_longest_ring_is_the_limit():
    for card in CARDS:
        one, many = (bounds(Work.square(2048, 2, n), card) for n in (1, 128))
        assert one.kernels == one.chain > one.bus
        assert many.path == many.bus


def test_the_documentation_has_the_computed_tables(parts):
    from gpu_check import computed

    text = (ROOT / "docs" / "performance.md").read_text()
    shown = text[text.index(computed.BEGIN) : text.index(computed.END) + len(computed.END)]
    assert shown == computed.tables(), (
        "PYTHONPATH=.:scripts python -m gpu_check.computed prints what it should be"
    )


def test_decoding_reads_compressed_pixels_and_writes_all():
    work = Work.square(2048, 2, 32)
    decoding = decoding_traffic(work, 7.0)
    assert decoding.moved / 32 == pytest.approx(work.frame_bytes * 8 / 7)
