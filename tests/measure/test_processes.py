# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.processes`: what the system tells of a process and its children."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuidx.measure.processes import children, cpu_seconds, descendants, footprint, thread_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc: run it on Linux")


def test_a_child_is_found_until_it_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())
        assert child.pid in descendants(os.getpid())
        assert descendants(child.pid) == [child.pid]
        child.communicate(b"\n")
    assert child.pid not in children(os.getpid())
    assert (footprint(child.pid), cpu_seconds(child.pid), thread_seconds(child.pid)) == (None, 0.0, [])


def test_memory_files_and_threads_are_those_of_the_process():
    before = footprint(os.getpid())
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    held = bytearray(b"x" * (64 << 20))
    with Path(os.devnull).open() as file:
        thread.start()
        after = footprint(os.getpid())
        go.set()
        thread.join()
        assert file.fileno() >= 0
    assert after.files == before.files + 1
    assert after.threads == before.threads + 1
    assert after.memory - before.memory > len(held) // 2048


def test_cpu_time_of_the_threads_is_that_of_the_process():
    pid = os.getpid()
    n_thread = len(thread_seconds(pid))
    assert n_thread == footprint(pid).threads
    assert sum(thread_seconds(pid)) <= cpu_seconds(pid) + 0.5
    assert cpu_seconds(pid) > 0
