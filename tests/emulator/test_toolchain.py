# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of built objects: shared by processes, safe from other users; and what a missing tool does."""

import tempfile
import threading

import pytest

from emulator import need, toolchain


@pytest.fixture
def no_folder_yet():
    toolchain.cache_folder.cache_clear()
    yield
    toolchain.cache_folder.cache_clear()


def test_object_is_made_once_by_many_at_the_same_time(tmp_path):
    made, start = [], threading.Barrier(8)

    def make(path):
        made.append(path)
        path.write_text("done")

    def want():
        start.wait(30)
        toolchain.build_once(tmp_path / "object.so", make)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "object.so").read_text() == "done"


def test_object_that_failed_is_made_again(tmp_path):
    def fail(path):
        path.write_text("half")
        raise toolchain.CompileError("no")

    with pytest.raises(toolchain.CompileError):
        toolchain.build_once(tmp_path / "object.so", fail)
    toolchain.build_once(tmp_path / "object.so", lambda path: path.write_text("whole"))
    assert (tmp_path / "object.so").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"object.so", "object.so.lock"}


def test_folder_is_the_users_own(tmp_path, monkeypatch, no_folder_yet):
    monkeypatch.delenv("CUDA_ON_CPU_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = toolchain.cache_folder()
    assert folder.parent == tmp_path.resolve()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_folder_where_others_may_write_is_refused(tmp_path, monkeypatch, no_folder_yet):
    monkeypatch.delenv("CUDA_ON_CPU_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    toolchain.cache_folder().chmod(0o777)
    toolchain.cache_folder.cache_clear()
    with pytest.raises(RuntimeError, match="others may write"):
        toolchain.cache_folder()


def test_missing_tool_skips(monkeypatch):
    monkeypatch.setattr(toolchain, "CXX", "no-such-compiler")
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="no-such-compiler"):
        need("g++")


def test_missing_tool_fails_where_tests_must_not_shrink(monkeypatch):
    monkeypatch.setattr(toolchain, "CXX", "no-such-compiler")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-compiler"):
        need("g++")
