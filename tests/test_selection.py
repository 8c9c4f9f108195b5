# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU or CUDA: what is chosen, what is said of it, and that runs without CUDA never touch it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from live import PEAKS, Server, beamtime, run, write_inputs

from gpuidx import selection
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.errors import BackendError
from gpuidx.options import RunOptions
from gpuidx.selection import Choice, decide

GOOD = DeviceInfo(
    number=0, name="A", capability=(9, 0), address="0000:41:00.0", total=80 * 10**9, free=79 * 10**9
)
FULL = DeviceInfo(number=1, name="B", problem="out of device memory", mend="see who uses it")
THIRD = DeviceInfo(number=2, name="C", free=10**9)
NONE = CudaReport(problem="no NVIDIA driver", mend="install it")

WITHOUT_DRIVER = """
import ctypes
original = ctypes.CDLL
def CDLL(name, *args, **kwargs):
    if name == "libcuda.so.1":
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    return original(name, *args, **kwargs)
ctypes.CDLL = CDLL
"""


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch):
    """Gives the function that says what there is of CUDA."""

    def say(*devices: DeviceInfo, report: CudaReport | None = None) -> None:
        found = report or CudaReport(devices=devices, n_device=len(devices))

        def probe(wanted: tuple[int, ...]) -> CudaReport:
            return CudaReport(
                devices=tuple(d for d in found.devices if not wanted or d.number in wanted),
                n_device=found.n_device,
                problem=found.problem,
                mend=found.mend,
            )

        monkeypatch.setattr(selection, "probe", probe)

    return say


def refused(**options: object) -> str:
    with pytest.raises(BackendError) as error:
        decide(RunOptions(backend="cuda", **options))
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cpu_looks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "probe", None)
    assert decide(RunOptions(backend="cpu")) == Choice("cpu", "backend: cpu, as asked for")


def test_options_of_devices_are_said_to_be_without_effect_on_the_cpu() -> None:
    choice = decide(RunOptions(backend="cpu", gpu_batch=8, gpu_devices=(0,), gpu_max_latency=5.0))
    assert choice.name == "cpu"
    assert choice.warnings == ("without effect with --backend=cpu: --gpu-batch, --gpu-max-latency",)


def test_auto_takes_a_usable_device(there) -> None:
    there(GOOD, FULL)
    choice = decide(RunOptions())
    assert choice == Choice("cuda", "backend: cuda (device 0: A, 79.0 GB free)", (0,), (), {0: GOOD.address})


def test_auto_takes_the_cpu_and_says_why(there) -> None:
    there(report=NONE)
    assert decide(RunOptions()) == Choice("cpu", "backend: cpu (no NVIDIA driver)")
    there(FULL)
    assert (
        decide(RunOptions(gpu_devices=(1,))).line == "backend: cpu (CUDA device 1 (B): out of device memory)"
    )


def test_auto_warns_of_devices_that_it_cannot_use(there) -> None:
    there(GOOD, FULL, THIRD)
    choice = decide(RunOptions(gpu_devices=()))
    assert (choice.name, choice.devices) == ("cuda", (0, 2))
    assert "device 0: A, 79.0 GB free, device 2: C, 1.0 GB free" in choice.line
    assert choice.warnings == ("CUDA device 1 (B) is not used: out of device memory; see who uses it",)


def test_auto_warns_of_devices_that_do_not_exist(there) -> None:
    there(GOOD)
    choice = decide(RunOptions(gpu_devices=(0, 3)))
    assert choice.devices == (0,)
    assert choice.warnings == (
        "CUDA device 3 is not used: there is no such device, the only one is 0; correct --gpu-devices",
    )
    choice = decide(RunOptions(gpu_devices=(3,)))
    assert (choice.name, choice.devices) == ("cpu", ())
    assert "CUDA device 3: there is no such device" in choice.line


def test_devices_are_used_in_the_order_of_the_option(there) -> None:
    there(GOOD, THIRD, DeviceInfo(number=1, name="D"))
    choice = decide(RunOptions(gpu_devices=(2, 0)))
    assert (choice.devices, choice.addresses) == ((2, 0), {2: "", 0: "0000:41:00.0"})
    assert decide(RunOptions(gpu_devices=())).devices == (0, 1, 2)


def test_cuda_takes_all_wanted_devices(there) -> None:
    there(GOOD, FULL, THIRD)
    assert decide(RunOptions(backend="cuda", gpu_devices=(0, 2))).devices == (0, 2)


@pytest.mark.parametrize("devices", [(1,), (0, 1), ()])
def test_cuda_is_refused_if_a_wanted_device_is_not_usable(there, devices: tuple[int, ...]) -> None:
    there(GOOD, FULL, THIRD)
    text = refused(gpu_devices=devices)
    assert text == (
        "--backend=cuda: CUDA device 1 (B): out of device memory; see who uses it, or give --backend=cpu"
    )


def test_cuda_is_refused_if_a_wanted_device_does_not_exist(there) -> None:
    there(GOOD, GOOD)
    assert "CUDA device 5: there is no such device, they are 0 to 1" in refused(gpu_devices=(0, 5))


def test_cuda_is_refused_with_the_reason_where_there_is_none(there) -> None:
    there(report=NONE)
    assert refused() == "--backend=cuda: no NVIDIA driver; install it, or give --backend=cpu"


# Without CUDA, as a user sees it


@pytest.fixture
def without_cuda(tmp_path: Path) -> dict[str, str]:
    """Environment without a driver, where an import of CuPy leaves a trace in every process."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WITHOUT_DRIVER)
    for name in ("cupy", "cupy_backends"):
        (site / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'w').close(); raise ImportError"
        )
    return os.environ | {"PYTHONPATH": str(site)}


@pytest.mark.parametrize(
    "program",
    [
        "import gpuidx",
        "import gpuidx.cli",
        "from gpuidx import cli; sys.argv = ['gpuidx', '--help']; cli.call(['--version'])",
        "from gpuidx.selection import decide; from gpuidx.options import RunOptions; decide(RunOptions())",
    ],
)
def test_nothing_of_cuda_is_imported_without_a_driver(without_cuda: dict[str, str], program: str) -> None:
    watch = "import sys; n = [m for m in sys.modules if m.startswith(('cupy', 'numba'))]; sys.exit(n or 0)"
    words = [sys.executable, "-W", "error", "-c", f"import sys; {program}; {watch}"]
    done = subprocess.run(words, env=without_cuda, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def gpuidx(*words: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "gpuidx", *words]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


def test_help_warns_of_nothing_without_a_driver(without_cuda: dict[str, str], tmp_path: Path) -> None:
    done = gpuidx("--help", env=without_cuda, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--gpu-devices LIST" in done.stdout
    assert not (tmp_path / "imported").exists()


def test_cuda_ends_with_one_line_and_exit_code_1_without_a_driver(
    without_cuda: dict[str, str], tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    (tmp_path / "list").write_text("a.h5\n")
    words = ["-g", "test.geom", "-p", "test.cell", "-o", "out.stream", "-i", "list", "--peaks=peakfinder8"]
    done = gpuidx(*words, "--backend=cuda", env=without_cuda, folder=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpuidx: --backend=cuda: no NVIDIA driver; ")
    assert not (tmp_path / "out.stream").exists()


def test_a_whole_run_without_a_driver_imports_no_cupy_and_warns_of_nothing(
    without_cuda: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", without_cuda["PYTHONPATH"])
    write_inputs(tmp_path)
    sent = beamtime(3)
    with Server("rep", sent.messages) as server:
        done = run(tmp_path, *server.request, *PEAKS, f"--max-frames={len(sent.messages)}")
    assert done.code == 0, done.log
    assert len(done.chunks) == len(sent.messages)
    assert "backend: cpu (no NVIDIA driver)\n" in done.log
    assert "arning" not in done.log
    assert not (tmp_path / "imported").exists()
