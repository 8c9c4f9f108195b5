# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on an ASAP::O stream: the stand-in server, the real client library, the stream read back."""

from pathlib import Path

import deadly_program
import live
import pytest
from simulation.asapo.client import need_library

from gpuidx.secret import TOKEN_VARIABLE
from gpuidx.simulation.asapo.server import StandIn

need_library()

STREAM = "run1"
TOKEN = "seven-seals"
QUICK = ("--asapo-consumer-timeout=200", "--asapo-resend-after=2", "--no-data-timeout=20")
COPY = ("--copy-header=truth_id",)
NO_ANALYSIS = ("--peaks=none", "--indexing=none")


@pytest.fixture
def messages():
    """Payloads and metadata of a few frames."""
    return live.beamtime(8).messages


def words(server, *more, group="g1"):
    """The command line of a run on the server."""
    return (
        f"--asapo-endpoint={server.endpoint}", f"--asapo-token={server.token}",
        f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", f"--asapo-group={group}",
        f"--asapo-stream={STREAM}", *QUICK, *live.PEAKS, *COPY, *more,
    )  # fmt: skip


def ids(chunks):
    """Message numbers of the chunks."""
    return sorted(chunk.serial for chunk in chunks)


def test_every_message_comes_to_the_stream_once_and_is_acknowledged(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages}, token=TOKEN) as server:
        server.finish(STREAM)
        done = live.run(tmp_path, *words(server, "--asapo-acks"))
        assert done.code == 0, done.log
        assert ids(done.chunks) == list(range(1, len(messages) + 1))
        assert live.numbers(done.chunks) == list(range(len(messages)))
        assert server.group(STREAM, "g1").acknowledged == set(range(1, len(messages) + 1))
        assert {chunk.event for chunk in done.chunks} == {"//"}
        text = (tmp_path / "test.stream").read_text()
        assert f"gpuidx/asapo_stream = {STREAM}" in text


def test_runs_of_one_group_share_the_messages_and_the_next_run_goes_on(tmp_path, messages):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        live.write_inputs(folder)
    with StandIn(streams={STREAM: messages[:5]}, token=TOKEN) as server:
        first = live.run(folders[0], *words(server, "--asapo-acks", "--max-frames=3"))
        assert first.code == 0, first.log
        assert len(first.chunks) == 3
        server.put(STREAM, messages[5])
        server.finish(STREAM)
        second = live.run(folders[1], *words(server, "--asapo-acks"))
        assert second.code == 0, second.log
        assert ids(first.chunks + second.chunks) == [1, 2, 3, 4, 5, 6]


def test_a_killed_run_goes_on_with_its_stream(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages}, token=TOKEN) as server:
        process = live.start(tmp_path, *words(server, "--asapo-acks", "-j2"))
        server.store.wait_until(lambda: len(server.group(STREAM, "g1").acknowledged) >= 2, live.PATIENCE)
        process.kill()
        process.communicate()
        with (tmp_path / "test.stream").open("ab") as file:
            file.write(b"----- Begin chunk -----\nImage filename: half\n")
        server.finish(STREAM)
        done = live.run(tmp_path, *words(server, "--asapo-acks", "--resume"))
        assert done.code == 0, done.log
        assert ids(done.chunks) == list(range(1, len(messages) + 1))


def test_a_message_that_kills_its_workers_is_kept_aside_and_has_an_empty_chunk(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages[:4]}, token=TOKEN) as server:
        server.finish(STREAM)
        given = words(server, "--asapo-acks", "--slots=4", *NO_ANALYSIS)
        done = live.finish(live.start(tmp_path, *given, program=[deadly_program.__file__]), tmp_path)
        assert done.code == 0, done.log
        assert ids(done.chunks) == [1, 2, 3, 4]
        assert server.group(STREAM, "g1").acknowledged == {1, 2, 3, 4}
    (lost,) = (chunk for chunk in done.chunks if chunk.serial == deadly_program.DEADLY)
    assert lost.peaks is None
    assert "gpuidx/lost = SIGKILL in each worker that had it" in (tmp_path / "test.stream").read_text()
    (kept,) = (tmp_path / "test.stream.lost").iterdir()
    assert kept.read_bytes() == messages[deadly_program.DEADLY - 1]
    assert done.count("lost with a worker") == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc: run it on Linux")
def test_the_token_is_in_no_file_and_no_process(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages[:2]}, token=TOKEN) as server:
        given = words(server, "--asapo-acks", "--debug", *NO_ANALYSIS)
        process = live.start(tmp_path, *given, environment={TOKEN_VARIABLE: TOKEN})
        server.store.wait_until(lambda: len(server.group(STREAM, "g1").acknowledged) == 2, live.PATIENCE)
        running = descendants(process.pid)
        assert len(running) >= 4  # main, the forkserver, a worker and a reader
        for pid in running:
            for name in ("cmdline", "environ", "comm"):
                assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), (pid, name)
        server.finish(STREAM)
        done = live.finish(process, tmp_path)
        assert done.code == 0, done.log
    for path in tmp_path.rglob("*"):
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in done.out


def descendants(pid):
    """Process numbers of a process and all below it."""
    found = [pid]
    for one in found:
        found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found
