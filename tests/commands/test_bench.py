# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx bench`: a short measurement, and what is said of one."""

import json
import os
import subprocess
import sys

import pytest
from emulator import need, program

from gpuidx.cli import call
from gpuidx.commands.bench_report import Report
from gpuidx.measure.bench import STAGES, Alone
from gpuidx.measure.live import LiveRun
from gpuidx.measure.model import Costs, DeviceCosts


class Measured:
    n_pixel, n_byte, dtype, format = 4_000_000, 8_000_000, "u2", "seedee"


def report(wanted, device=None, n_core=4):
    costs = Costs(
        receive=1e-4, copy=1e-3, network=1e-3, decode=2e-3, search=6e-3, text=1e-4, decode_hit=0.0,
        trials=1e-3, refine=5e-4, integrate=1e-3, text_hit=4e-4, device=device,
    )  # fmt: skip
    run = LiveRun(
        n_frame=100, seconds=2.0, hits=0.2, indexed=0.2, main=1.1e-3, network=1e-3, workers=9e-3, source=1e-3
    )
    stages = dict.fromkeys(STAGES, 1e-3)
    return Report(
        subject=Measured(), compression="bslz4", alone=Alone(blank=stages, hit=stages, copy=1e-3), run=run,
        costs=costs, note="backend: cpu", wanted=wanted, hits=0.2, n_core=n_core, n_gpu=int(bool(device)),
        jobs=4,
    )  # fmt: skip


def test_a_measurement_names_stages_limit_and_needs(capsys):
    words = ["bench", "--size=256", "--seconds=0.3", "-j", "1", "--rate=5000", "--json", "--hit-fraction=0.5"]
    assert call([*words, "--format=seedee", "--dtype=u2", "--backend=cpu", "--run=--min-peaks=2"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["frames"]["pixels"] == 256**2
    assert values["frames"]["bytes"] < 2 * 256**2
    for stage in ("decode", "peak search", "trials", "integrate", "text"):
        assert values["alone"]["hit"][stage] > 0, stage
    assert values["run"]["rate"] > 0
    assert values["run"]["workers"] > 0
    assert values["run"]["hits"] == pytest.approx(0.5, abs=0.2)
    assert values["rate"] == min(values["limits"].values())
    assert values["needs"]["cores"] > 1


def test_a_measurement_with_a_device_times_its_copies_and_kernels():
    need("g++", "cupy")
    words = ["bench", "--backend=cuda", "--size=64", "--seconds=0.1", "-j1", "--json"]
    words += ["--format=seedee", "--compression=bslz4", "--dtype=u2", "--run=--gpu-batch=2 --indexing=none"]
    done = subprocess.run(
        [sys.executable, "-m", "gpuidx", *words], env=os.environ | program.environment(),
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["machine"]["gpus"] == 1
    assert values["machine"]["note"].startswith("backend: cuda (device 0: Pretended device")
    assert values["costs"]["device"]["upload"] > 0
    assert values["costs"]["device"]["search"] > 0
    assert values["run"]["rate"] > 0


def test_the_verdict_says_what_limits_and_what_a_rate_needs():
    lines = report(1000.0).lines()
    assert lines[0] == "4.0 million pixels u2, seedee, bslz4: 8.00 MB a message; 20% hits"
    assert "This machine: 371 frames/s; the cores limit." in lines
    need = "1000 frames/s, at 80% load, need: 14 cores (-j 11), 2 programs that share the source out."
    assert need in lines
    assert lines[-1] == "This machine does not: it keeps up with 297 frames/s."
    assert report(100.0).lines()[-1] == "This machine keeps up with it."
    assert "need" not in report(0.0).lines()[-1]


def test_a_gpu_is_in_table_and_needs():
    text = "\n".join(report(4000.0, DeviceCosts(upload=4e-4, search=1e-4, trials=1e-4), n_core=64).lines())
    assert "GPU: upload" in text
    assert "the bus to the GPU 2500" in text
    assert ", 2 GPUs." in text


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--rate=-1", "--rate is -1"),
        ("--rate=inf", "--rate is inf"),
        ("--size=63", "--size is 63"),
        ("--hit-fraction=3", "--hit-fraction is 3"),
        ("--hit-fraction=nan", "--hit-fraction is nan"),
        ("--run=--nonsense", "nonsense"),
        ("--run='", "--run"),
        ("--run=--zmq-receivers=1", "--zmq-receivers"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(capsys, word, said):
    assert call(["bench", "--size=64", "--backend=cpu", word]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-g", "-p"])
def test_a_file_that_is_not_there_or_no_text_is_named(capsys, tmp_path, word):
    file = tmp_path / "wrong.file"
    for _ in range(2):
        assert call(["bench", "--size=64", "--backend=cpu", word, str(file)]) == 1
        assert "wrong.file" in capsys.readouterr().err
        file.write_bytes(b"\xff\xfe\x00\x01" * 100)
