# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which CUDA can be absent or broken is a reason, and says how to mend it.

CuPy itself runs in processes of their own only: it must not be imported before a device is pretended.
"""

import importlib.util
import json
import subprocess
import sys
from importlib import metadata

import pytest
from emulator.program import environment

from gpuidx.backends.cuda import detect
from gpuidx.backends.cuda.problems import LONGEST, Problem, backend_error, explain, one_line
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo

needs_cupy = pytest.mark.usefixtures("needs_cupy")

WITHOUT_NVRTC = """
import cuda.pathfinder as finder
def gone(name):
    raise finder.DynamicLibNotFoundError(f'Failure finding "lib{name}.so.13 or lib{name}.so.12"')
finder.load_nvidia_dynamic_lib = gone
"""
LOOK = "from gpuidx.backends.cuda.detect import main; main(sys.argv[1])"


@pytest.fixture
def driver(monkeypatch):
    """The test for a driver finds one."""
    monkeypatch.setattr(detect, "driver_problem", lambda: None)


def asking(monkeypatch, program):
    """Let *program* be the process that looks."""
    monkeypatch.setattr(detect, "COMMAND", (sys.executable, "-c", program))


def pretended(monkeypatch, **settings):
    """What `probe` says where a pretended device is all there is."""
    for name, value in environment(**settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(detect, "driver_problem", lambda: None)
    return detect.probe()


def only(report):
    """The one device of a report without other problems."""
    assert (report.problem, report.mend) == ("", "")
    (device,) = report.devices
    return device


# Without a driver, without CuPy


def test_without_a_driver_no_process_is_started(monkeypatch):
    monkeypatch.setattr(detect.ctypes, "CDLL", missing_library)
    monkeypatch.setattr(detect.subprocess, "Popen", None)
    report = detect.probe()
    assert (report.problem, report.devices) == ("no NVIDIA driver", ())
    assert "525" in report.mend


def missing_library(name):
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


def test_a_driver_that_cannot_be_loaded_is_told_from_a_missing_one(monkeypatch):
    def damaged(name):
        raise OSError(f"{name}: file too short")

    monkeypatch.setattr(detect.ctypes, "CDLL", damaged)
    assert "cannot be loaded (OSError: libcuda.so.1: file too short)" in detect.probe().problem


def test_other_systems_than_linux_are_not_searched(monkeypatch):
    monkeypatch.setattr(detect.ctypes, "CDLL", None)
    monkeypatch.setattr(detect.sys, "platform", "darwin")
    assert detect.probe().problem == "CUDA is used on Linux only"


def test_missing_cupy_is_said_with_the_way_to_install_it(monkeypatch, driver):
    monkeypatch.setattr(detect.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(detect.subprocess, "Popen", None)
    report = detect.probe()
    assert report.problem == "CuPy is not installed"
    assert "pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12" in report.mend


def test_two_packages_of_cupy_are_said(monkeypatch, driver):
    def version(name):
        if name in ("cupy-cuda12x", "cupy-cuda13x"):
            return "14.2.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(detect.metadata, "version", version)
    monkeypatch.setattr(detect.importlib.util, "find_spec", lambda name: name)
    report = detect.probe()
    assert report.problem == "more than one CuPy is installed (cupy-cuda12x 14.2.0, cupy-cuda13x 14.2.0)"
    assert report.mend.startswith("pip uninstall cupy-cuda12x cupy-cuda13x")


def test_a_cupy_that_cannot_be_imported_gives_its_last_line(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text(
        "raise ImportError('''\n====\nadvice\n\n  libX.so: not found\n====\n''')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    report = detect.look()
    assert report.problem == "CuPy cannot be imported (libX.so: not found)"
    (tmp_path / "cupy.py").write_text("1 / 0  # longer than before")
    importlib.invalidate_caches()
    assert detect.look().problem == "CuPy cannot be imported (ZeroDivisionError: division by zero)"


# The process that looks


@pytest.fixture
def installed(monkeypatch, driver):
    """CuPy seems to be installed."""
    monkeypatch.setattr(detect.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(detect, "cupy_packages", lambda: ["cupy-cuda12x 14.2.0"])


def test_a_driver_that_hangs_is_given_up(monkeypatch, installed):
    asking(monkeypatch, "import threading; threading.Event().wait()")
    report = detect.probe(limit=0.3)
    assert report.problem == "the CUDA driver hangs (no answer for 0.3 s)"
    assert "nvidia-smi" in report.mend


def test_a_slow_driver_is_told_to_the_user(monkeypatch, installed, caplog):
    asking(monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(detect, "LONG", 0.1)
    with caplog.at_level("INFO"):
        detect.probe(limit=0.3)
    assert "slow to answer" in caplog.text


class Stuck(subprocess.Popen):
    """A process that no wait sees the end of, as one stuck in the kernel."""

    error: BaseException | None = None
    started = []  # noqa: RUF012

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.started.append(self)

    def communicate(self, input=None, timeout=None):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        raise subprocess.TimeoutExpired(self.args, timeout)


@pytest.fixture
def stuck(monkeypatch, installed):
    """The processes that look, all of the class `Stuck`."""
    asking(monkeypatch, "import threading; threading.Event().wait()")
    monkeypatch.setattr(Stuck, "started", [])
    monkeypatch.setattr(detect.subprocess, "Popen", Stuck)
    yield Stuck.started
    for process in Stuck.started:
        process.kill()
        process.wait(60)


def test_a_process_that_cannot_be_killed_is_left_behind(stuck):
    assert "hangs" in detect.probe(limit=0.01).problem
    (process,) = stuck
    assert process.stdout.closed
    assert process.stderr.closed


def test_an_interrupt_ends_the_process_that_looks(monkeypatch, stuck):
    monkeypatch.setattr(Stuck, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        detect.probe()
    (process,) = stuck
    assert process.wait(60) == -detect.signal.SIGKILL


def test_the_process_that_looks_ends_by_itself_if_nobody_waits():
    program = (
        "import gpuidx.backends.cuda.detect as d; d.LIMIT = -9; d.look = lambda _: d.signal.pause(); d.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -detect.signal.SIGALRM


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with signal 11"),
        ("import sys; sys.exit('lost')", "ended with code 1 (lost)"),
        ("print('no report')", "ended with code 0"),
        ("print('[]')", "ended with code 0"),
        ("print('{}')", "ended with code 0"),
        ("pass", "ended with code 0"),
    ],
)
def test_a_process_that_ends_without_a_report_is_a_reason(monkeypatch, installed, program, text):
    asking(monkeypatch, program)
    report = detect.probe()
    assert text in report.problem
    assert "\n" not in report.problem
    assert "python -m gpuidx.backends.cuda.detect" in report.mend


def test_a_process_that_cannot_start_is_a_reason(monkeypatch, installed):
    monkeypatch.setattr(detect, "COMMAND", ("/nonexistent",))
    assert "cannot start (FileNotFoundError" in detect.probe().problem


def test_what_libraries_print_before_the_report_does_no_harm(monkeypatch, installed):
    device = DeviceInfo(number=1, name="Å", capability=(9, 0), total=2, free=1)
    report = CudaReport(cupy="c", runtime="12.9", devices=(device,), n_device=2)
    asking(monkeypatch, f"print('a warning'); print({report.to_json()!r})")
    assert detect.probe() == report


# What CuPy finds


@needs_cupy
def test_a_device_on_which_a_kernel_ran_is_usable(monkeypatch):
    report = pretended(monkeypatch)
    device = only(report)
    assert device.usable
    assert device.capability == (9, 0)
    assert device.address == "0000:00:00.0"
    assert device.total >= device.free > 1e9
    assert report.n_device == 1
    assert "CUDA " in report.driver
    assert report.runtime.count(".") == report.nvrtc.count(".") == 1


@needs_cupy
def test_only_wanted_devices_are_tried(monkeypatch):
    for name, value in environment(devices=2).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(detect, "driver_problem", lambda: None)
    assert [d.number for d in detect.probe().devices] == [0, 1]
    report = detect.probe((1, 7))
    assert [(d.number, d.usable) for d in report.devices] == [(1, True)]
    assert report.n_device == 2


@needs_cupy
@pytest.mark.parametrize("hidden", [None, "", "-1"])
def test_no_device_is_said_with_what_hides_it(monkeypatch, hidden):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    report = pretended(monkeypatch, devices=0)
    assert report.problem.startswith("there is no device")
    assert (f"CUDA_VISIBLE_DEVICES={hidden!r}" in report.problem) == (hidden is not None)
    assert ("CUDA_VISIBLE_DEVICES" in report.mend) == (hidden is not None)


@needs_cupy
def test_a_driver_that_is_too_old_is_said_with_what_is_needed(monkeypatch):
    report = pretended(monkeypatch, driver=11040)
    assert report.problem.startswith("the driver is too old: ")
    assert "CUDA 11.4" in report.problem
    assert "525 or newer" in report.problem or "580 or newer" in report.problem
    assert report.mend.startswith("update the driver")


@needs_cupy
def test_a_driver_that_does_not_run_is_told_from_an_old_one(monkeypatch):
    assert pretended(monkeypatch, driver=0).problem == "NVIDIA's driver is not running"


@needs_cupy
@pytest.mark.parametrize("setting", [{"fail_alloc_after": 0}, {"memory": 10**8}])
def test_a_device_without_memory_is_not_usable(monkeypatch, setting):
    device = only(pretended(monkeypatch, **setting))
    assert (device.usable, device.problem) == (False, "out of device memory")
    assert "nvidia-smi" in device.mend


@needs_cupy
def test_missing_nvrtc_is_said_with_the_package_that_brings_it(monkeypatch):
    asking(monkeypatch, f"import sys; sys.path[:] = sys.argv[2:]\n{WITHOUT_NVRTC}\n{LOOK}")
    report = pretended(monkeypatch, nvrtc="real")
    device = only(report)
    assert device.problem == "NVRTC, the compiler of kernels, is missing"
    assert "pip install nvidia-cuda-nvrtc" in device.mend
    assert report.nvrtc == ""


@needs_cupy
def test_a_device_that_nvrtc_does_not_know_is_too_old(monkeypatch):
    device = only(pretended(monkeypatch, nvrtc="real", cc=30))
    assert "too old" in device.problem
    assert "CPU" in device.mend


@needs_cupy
def test_a_kernel_that_the_device_does_not_load_is_said(monkeypatch):
    device = only(pretended(monkeypatch, nvrtc="real"))
    assert device.problem == "the device does not take what NVRTC compiles"
    assert "CUPY_COMPILE_WITH_PTX" in device.mend


@needs_cupy
def test_wrong_results_of_a_device_are_noticed(monkeypatch):
    program = (
        "import gpuidx.backends.cuda.detect as d; d.TINY = d.TINY.replace('3 *', '4 *'); d.main(sys.argv[1])"
    )
    asking(monkeypatch, f"import sys; sys.path[:] = sys.argv[2:]; {program}")
    assert "a kernel gave [7, 11, 15, 19]" in only(pretended(monkeypatch)).problem


@needs_cupy
def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    cache = f"import os; os.environ['CUPY_CACHE_DIR'] = {str(tmp_path / 'file' / 'cache')!r}"
    asking(monkeypatch, f"import sys; sys.path[:] = sys.argv[2:]; {cache}; {LOOK}")
    report = pretended(monkeypatch)
    (problem,) = {report.problem, *(device.problem for device in report.devices)}
    assert "CuPy's cache of kernels cannot be used (NotADirectoryError" in problem
    assert "CUPY_CACHE_DIR" in report.mend + "".join(device.mend for device in report.devices)


# What errors of CUDA mean


@pytest.fixture(scope="session")
def texts():
    """Name and text of CuPy's exceptions for CUDA's error numbers."""
    program = """if True:
        import json
        from cupy_backends.cuda.api.runtime import CUDARuntimeError
        errors = {n: str(CUDARuntimeError(n)) for n in (2, 3, 35, 46, 100, 209, 214, 222, 802, 803, 804, 999)}
        print(json.dumps(errors))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {int(number): text for number, text in json.loads(done.stdout).items()}


class CUDARuntimeError(RuntimeError):
    """As CuPy names it."""


class OutOfMemoryError(MemoryError):
    """As CuPy names it."""


@needs_cupy
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2, "out of device memory"),
        (3, "cannot be initialised"),
        (35, "missing, or too old"),
        (46, "for itself, or it is busy"),
        (100, "there is no device"),
        (209, "does not take what NVRTC compiles"),
        (214, "memory errors"),
        (222, "does not take what NVRTC compiles"),
        (802, "not ready"),
        (803, "different versions"),
        (804, "does not support this device"),
        (999, "cudaErrorUnknown"),
    ],
)
def test_errors_of_cuda_are_explained(texts, number, text):
    assert text in explain(CUDARuntimeError(texts[number])).text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OutOfMemoryError("Out of memory allocating 512 bytes"), "out of device memory"),
        (
            CUDARuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image"),
            "does not take what NVRTC compiles",
        ),
        (CUDARuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), "out of device memory"),
        (PermissionError(13, "Permission denied", ".cupy"), "CuPy's cache of kernels"),
        (OSError(28, "No space left on device"), "CuPy's cache of kernels"),
        (OSError("libc.so.6: no version information"), "OSError: libc.so.6: no version information"),
        (ValueError("something\n  else"), "ValueError: something else"),
    ],
)
def test_other_errors_are_explained_on_one_line(error, text):
    problem = explain(error)
    assert text in problem.text
    assert "\n" not in problem.text + problem.mend
    assert problem.mend


@pytest.mark.parametrize(
    ("major", "package"),
    [(12, "nvidia-cuda-nvrtc-cu12 "), (13, "nvidia-cuda-nvrtc "), (14, "nvidia-cuda-nvrtc ")],
)
def test_the_package_of_nvrtc_is_that_of_the_runtime(major, package):
    mend = explain(RuntimeError('Failure finding "libnvrtc.so.13"'), major).mend
    assert package in mend
    assert f"cuda{major}" in mend


def test_long_errors_are_cut():
    assert len(one_line(ValueError("x" * 1000))) == LONGEST


def test_an_error_of_cuda_becomes_one_of_a_run():
    error = backend_error("CUDA device 2", OutOfMemoryError("Out of memory"))
    assert str(error) == "CUDA device 2: out of device memory; see in 'nvidia-smi' who uses the device"
    assert error.exit_code == 1


def test_a_defect_of_gpuidx_is_not_blamed_on_the_device():
    error = backend_error("CUDA device 0", ValueError("3 frames, 0 free buffers of 2"))
    assert "nvidia-smi" not in str(error)
    assert "0 free buffers of 2; this is a defect of gpuidx" in str(error)


def test_a_problem_is_kept_with_what_was_found():
    report = CudaReport(cupy="c").failed(Problem("a", "b"))
    assert (report.cupy, report.problem, report.mend) == ("c", "a", "b")
    assert CudaReport.from_json(report.to_json()) == report
