# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when a whole program is killed or stopped; each test runs one of its own."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow.driver import PATIENCE, watch

from gpuidx.flow.stop import SAME

TESTS = Path(__file__).parent.parent


@contextmanager
def program(*actions, portable=False, stdin=False):
    """Gives a running program, and the numbers of its processes: main, forkserver, workers."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "GPUIDX_PORTABLE": "1" if portable else "0"}
    with subprocess.Popen(
        [sys.executable, str(TESTS / "flow" / "program.py"), *actions],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            pids = [int(word) for word in process.stdout.readline().split()]
            assert len(pids) == 2 + len(actions), process.stderr.read()
            yield process, pids
        finally:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


@pytest.mark.parametrize("actions", [("echo", "echo"), ("hold", "loop"), ("freeze", "echo")])
def test_nothing_is_left_when_main_is_killed(actions):
    with program(*actions) as (process, pids), watch(pids) as wait:
        process.kill()
        wait(5)
        assert process.stderr.read() == ""


def test_nothing_is_left_when_main_is_killed_without_the_death_signal():
    with program("echo", "echo", portable=True) as (process, pids), watch(pids) as wait:
        process.kill()
        wait(5)
        assert process.stderr.read() == ""


def test_a_forkserver_whose_main_has_died_at_once_loads_nothing():
    code = "import gpuidx.flow.lifeline; print('loaded')"
    for main, expected in ((os.getpid(), (0, "loaded\n")), (1, (1, ""))):
        environment = {**os.environ, "GPUIDX_MAIN": str(main)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == expected, done.stderr


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_group_lets_all_tasks_finish(number, portable):
    with program("echo", "echo", portable=portable) as (process, pids), watch(pids) as wait:
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=PATIENCE)
        wait(5)
    assert process.returncode == 0, err
    assert out.startswith("level 1, left 0, ")
    assert "crashed" not in out
    assert "lost" not in out
    assert err == ""


def test_a_second_signal_drops_what_is_in_flight():
    with program("hold", "echo", stdin=True) as (process, pids), watch(pids) as wait:
        process.stdin.write("\n")
        process.stdin.flush()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "draining\n"
        with pytest.raises(subprocess.TimeoutExpired):  # the worker that holds is waited for
            process.wait(timeout=2 * SAME)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        wait(5)
    assert process.returncode == 0, err
    out = out.replace("draining\n", "")
    assert out.startswith("level 2, left 1, ")
    assert out.rstrip().endswith("1    dropped,       1      stopped")
    assert err == ""


def test_the_second_of_two_signals_at_once_does_not_count():
    with program("echo", "echo") as (process, _):
        process.send_signal(signal.SIGTERM)  # as the timeout command does
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert out.startswith("level 1, left 0, "), err


@pytest.mark.parametrize("portable", [False, True])
def test_an_exception_in_main_ends_the_program_with_all_its_children(portable):
    with program("hold", "echo", portable=portable, stdin=True) as (process, pids), watch(pids) as wait:
        _, err = process.communicate("raise\n", timeout=PATIENCE)
        wait(5)
    assert process.returncode == 1
    assert err.endswith("RuntimeError: an error of main\n")
