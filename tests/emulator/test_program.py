# SPDX-License-Identifier: GPL-3.0-or-later
"""The pretended device in programs and their children, with the faults that a program must survive."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from emulator import need
from emulator.program import SITE, environment

need("g++", "cupy")

TESTS = str(Path(__file__).resolve().parents[1])


# launch(n) runs n kernels that add one to eight numbers; attempt(f) gives the text of f's exception.
COMMON = """
    import numpy as np, os, sys
    def attempt(function, *args):
        try:
            return function(*args)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    def launch(n):
        import cupy
        source = 'extern "C" __global__ void more(int* p) { p[threadIdx.x] += 1; }'
        x, kernel = cupy.zeros(8, np.int32), cupy.RawKernel(source, "more")
        for _ in range(n):
            kernel((1,), (8,), (x,))
        return x.get().sum()
"""


def run(code, variables, prefix=""):
    """Run *code* in a process of its own; its lines."""
    program = prefix + textwrap.dedent(COMMON) + textwrap.dedent(code)
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_program_has_a_device():
    lines = run("import cupy; print(cupy.cuda.runtime.getDeviceCount(), launch(3))", environment())
    assert lines == ["1 24"]


def test_start_loads_neither_numpy_nor_cupy():
    code = "print(sorted({'numpy', 'cupy', 'cupy_backends'} & set(sys.modules)))"
    assert run(code, environment(), prefix="import sys\n" + code + "\n")[0] == "[]"


def test_libcuda_is_there_only_with_the_device():
    code = "import ctypes; print(attempt(lambda: ctypes.CDLL('libcuda.so.1').cuInit(0)))"
    assert run(code, environment()) == ["0"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"devices": 0}, "CUDARuntimeError: cudaErrorNoDevice"),
        ({"driver": 11080}, "CUDARuntimeError: cudaErrorInsufficientDriver"),
        ({"nvrtc": "missing"}, "DynamicLibNotFoundError: Failure finding"),
        ({"cc": 30}, "CompileException: nvrtc: error: invalid value for --gpu-architecture"),
        ({"memory": 100}, "OutOfMemoryError"),
        ({"fail_alloc_after": 0}, "OutOfMemoryError"),
        ({"lose_after": 2}, "CUDARuntimeError: cudaErrorIllegalAddress"),
    ],
)
def test_fault_is_the_exception_that_a_real_one_gives(settings, text):
    code = "print(attempt(launch, 3)); sys.stdout.flush(); os._exit(0)"
    assert text in "\n".join(run(code, environment(**settings)))


def test_hidden_device_is_no_device():
    variables = environment(devices=2) | {"CUDA_VISIBLE_DEVICES": ""}
    assert "NoDevice" in run("import cupy; print(attempt(cupy.cuda.runtime.getDeviceCount))", variables)[0]
    assert run(
        "import cupy; print(cupy.cuda.runtime.getDeviceCount())", variables | {"CUDA_VISIBLE_DEVICES": "1"}
    ) == ["1"]


def test_lost_device_fails_every_later_call():
    code = """
        import cupy
        rt = cupy.cuda.runtime
        attempt(launch, 3)
        stream, event = cupy.cuda.Stream.null, rt.eventCreate
        for call in [lambda: rt.malloc(8), rt.deviceSynchronize, event, lambda: rt.streamSynchronize(0),
                     lambda: rt.memGetInfo(), lambda: rt.hostAlloc(8, 0), lambda: rt.streamCreate()]:
            print(attempt(call))
        sys.stdout.flush()
        os._exit(0)
    """
    lines = run(code, environment(lose_after=2))
    assert len(lines) == 7
    assert all("cudaErrorIllegalAddress" in line for line in lines)


def test_only_one_process_loses_its_device(tmp_path):
    variables = environment(lose_after=2, lose_once=tmp_path / "lost", log=tmp_path / "log")
    code = "print(attempt(launch, 4)); sys.stdout.flush(); os._exit(0)"
    outcomes = [run(code, variables)[0] for _ in range(2)]
    assert "cudaErrorIllegalAddress" in outcomes[0]
    assert outcomes[1] == "32"
    assert (tmp_path / "log").read_text().count("device lost") == 1


def test_kernel_hangs_on_demand(tmp_path):
    log = tmp_path / "log"
    os.mkfifo(log)
    program = textwrap.dedent(COMMON) + "print(launch(3))"
    variables = os.environ | environment(hang_after=2, log=log)
    process = subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE)
    with log.open() as pipe:
        assert pipe.readline() == f"{process.pid} kernel never ends\n"
    assert process.poll() is None
    process.kill()
    assert process.communicate()[0] == b""


def test_messages_of_checks_reach_the_log(tmp_path):
    code = """
        import cupy
        kernel = cupy.RawKernel('extern "C" __global__ void stray(int* p) { p[1 << 20] = 1; }', "stray")
        kernel((1,), (1,), (cupy.zeros(8, np.int32),))
        print(os.getpid(), attempt(cupy.cuda.Device().synchronize))
        sys.stdout.flush()
        os._exit(0)
    """
    (line,) = run(code, environment(check=True, log=tmp_path / "log"))
    assert "cudaErrorIllegalAddress" in line
    assert (
        (tmp_path / "log").read_text().startswith(f"{line.split()[0]} stray: out of bounds: write of 4 bytes")
    )


def test_second_device_works_and_memory_of_the_first_is_foreign():
    code = """
        import cupy
        first = cupy.zeros(8, np.int32)
        cupy.cuda.Device(1).use()
        print(cupy.cuda.runtime.getDeviceCount(), cupy.cuda.runtime.getDevice(), launch(2))
        print(cupy.zeros(8, np.int32).device.id)
        kernel = cupy.RawKernel('extern "C" __global__ void more(int* p) { p[threadIdx.x] += 1; }', "more")
        print(attempt(cupy.cuda.runtime.setDevice, 2))
        cupy.cuda.runtime.deviceSynchronize()
        kernel((1,), (8,), (cupy.ndarray(8, np.int32, memptr=cupy.cuda.MemoryPointer(
            cupy.cuda.UnownedMemory(first.data.ptr, 32, first, 1), 0)),))
        print(attempt(cupy.cuda.runtime.deviceSynchronize))
        sys.stdout.flush()
        os._exit(0)
    """
    lines = run(code, environment(devices=2))
    assert lines[:2] == ["2 1 16", "1"]
    assert "cudaErrorInvalidDevice" in lines[2]
    assert "cudaErrorIllegalAddress" in lines[3]


CHILD = """
    def child(function, *args):
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            print(attempt(function, *args))
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
"""


def test_children_have_devices_of_their_own():
    code = (
        CHILD
        + """
    child(launch, 2)
    child(launch, 3)
    print(launch(1))
    """
    )
    assert run(code, environment(lose_after=3)) == ["16", "24", "8"]


def test_child_cannot_use_the_device_that_its_parent_has_used():
    code = (
        CHILD
        + """
    launch(1)
    import cupy
    child(cupy.cuda.runtime.getDeviceCount)
    child(cupy.zeros, 8)
    print(launch(1))
    """
    )
    first, second, parent = run(code, environment())
    assert "cudaErrorInitializationError" in first
    assert "cudaErrorInitializationError" in second
    assert parent == "8"


def test_children_of_a_forkserver_have_a_device(tmp_path):
    script = tmp_path / "forks.py"
    script.write_text(
        textwrap.dedent("""
            import multiprocessing, sys
            import numpy as np

            def work(n, answer):
                import cupy
                source = 'extern "C" __global__ void more(int* p) { p[threadIdx.x] += 1; }'
                x = cupy.zeros(8, np.int32)
                for _ in range(n):
                    cupy.RawKernel(source, "more")((1,), (8,), (x,))
                answer.send(int(x.get().sum()))

            if __name__ == "__main__":
                context = multiprocessing.get_context("forkserver")
                for n in (1, 2):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=work, args=(n, theirs))
                    process.start()
                    print(ours.recv())
                    process.join()
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["8", "16"], done.stderr


def test_another_sitecustomize_runs_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.another = __name__\n")
    variables = environment()
    variables["PYTHONPATH"] += os.pathsep + str(tmp_path)
    assert run("print(sys.another, launch(1))", variables) == ["sitecustomize 8"]


def test_program_does_not_go_on_without_the_device_that_was_asked_for():
    variables = os.environ | environment() | {"GPUIDX_PRETENDED_CUDA": '{"order": "sideways"}'}
    done = subprocess.run([sys.executable, "-c", "print(1)"], env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ArgumentError" in done.stderr


def test_variables_keep_the_path_that_was_set(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    variables = environment(order=3, devices=2)
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(SITE), "/somewhere"]
    assert json.loads(variables["GPUIDX_PRETENDED_CUDA"]) == {
        "order": 3,
        "check": False,
        "nvrtc": "pretended",
        "devices": 2,
    }


def test_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="no setting 'device'"):
        environment(device=2)


def test_without_the_variables_there_is_cupy_but_no_driver():
    import ctypes.util

    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver")
    code = "import cupy, ctypes; print(attempt(ctypes.CDLL, 'libcuda.so.1'), cupy.cuda.is_available())"
    (line,) = run(code, {})
    assert line.startswith("OSError: libcuda.so.1")
    assert line.endswith("False")


def test_nvidias_compiler_works_beside_the_pretended_one():
    need("nvrtc 12", "nvrtc 13")
    code = f"""
        sys.path.insert(0, {TESTS!r})
        from emulator.nvrtc_check import Nvrtc
        def compile(major):
            nvrtc = Nvrtc(major=major)
            source = "__global__ void f(int* p) {{ p[0] = 1; }}"
            return nvrtc.version()[0], nvrtc.compile(source, "k.cu", ["--gpu-architecture=sm_90"])[2][1:4]
        print(compile(12), launch(1), compile(13))
    """
    assert run(code, environment()) == ["(12, b'ELF') 8 (13, b'ELF')"]
