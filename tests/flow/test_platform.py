# SPDX-License-Identifier: GPL-3.0-or-later
import os
import resource
import socket

import pytest

from gpuidx.flow import platform


def test_portable_means_can_be_forced(monkeypatch):
    monkeypatch.setenv("GPUIDX_PORTABLE", "1")
    assert platform.portable()
    ours, theirs = platform.packet_pair()
    assert ours.type == socket.SOCK_STREAM
    ours.close()
    theirs.close()


def test_memory_available_is_known_both_ways(monkeypatch):
    for value in "01":
        monkeypatch.setenv("GPUIDX_PORTABLE", value)
        assert platform.memory_available() > 1 << 20


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_tightest_control_group_counts_and_its_file_pages_are_room(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/user/job\n")
    write(
        tmp_path / "user",
        memory__max="1000\n",
        memory__current="950",
        memory__stat="anon 1\ninactive_file 20\n",
    )
    write(
        tmp_path / "user" / "job",
        memory__max="max\n",
        memory__current="900",
        memory__stat="inactive_file 0\n",
    )
    assert platform.group_room(tmp_path, own) == 70


def test_control_groups_of_version_1_count(tmp_path):
    own = tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n")
    write(
        tmp_path / "memory" / "job",
        memory__limit_in_bytes="500",
        memory__usage_in_bytes="600",
        memory__stat="total_inactive_file 50",
    )
    assert platform.group_room(tmp_path, own) == 0


def test_no_control_group_is_no_limit(tmp_path):
    assert platform.group_room(tmp_path, tmp_path / "missing") is None
    (tmp_path / "own").write_text("0::/\n")
    assert platform.group_room(tmp_path, tmp_path / "own") is None


def test_the_limit_of_open_files_is_raised_as_far_as_allowed(monkeypatch):
    limits = {"now": (256, 1000)}
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: limits.update(now=new))
    assert platform.allow_open_files(200) == 256
    assert platform.allow_open_files(900) == 900
    assert platform.allow_open_files(5000) == 1000
    assert limits["now"] == (1000, 1000)


@pytest.mark.parametrize("value", ["0", "1"])
def test_memory_without_a_name_is_zero_and_of_its_size(monkeypatch, value):
    monkeypatch.setenv("GPUIDX_PORTABLE", value)
    fd = platform.open_memory(3 << 20)
    status = os.fstat(fd)
    assert status.st_size == 3 << 20
    assert status.st_blocks * 512 >= 3 << 20
    assert status.st_nlink == 0
    assert set(os.pread(fd, 3 << 20, 0)) == {0}
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="pins to CPUs: run it on Linux")
def test_a_process_uses_the_cpus_it_is_given_until_the_end_of_the_context():
    cpus = platform.usable_cpus()
    with platform.using_cpus(cpus[-1:]):
        assert platform.usable_cpus() == cpus[-1:]
    assert platform.usable_cpus() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="pins to CPUs: run it on Linux")
def test_cpus_that_are_gone_or_not_named_change_nothing():
    cpus = platform.usable_cpus()
    for given in ((), (1 << 14,)):
        platform.use_cpus(given)
        assert platform.usable_cpus() == cpus


def test_without_linux_no_process_can_be_pinned(monkeypatch):
    monkeypatch.setenv("GPUIDX_PORTABLE", "1")
    assert platform.usable_cpus() is None
    platform.use_cpus((0,))
