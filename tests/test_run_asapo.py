# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on an ASAP::O stream: the stand-in server, the real client library, the stream read back."""

import json
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import deadly_program
import live
import msgpack
import numpy as np
import pytest
from simulation.asapo.client import need_library

from gpuidx.secret import TOKEN_VARIABLE
from gpuidx.simulation import encode_hdf5
from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.simulation.encode_seedee import encode_seedee

need_library()

STREAM = "run1"
TOKEN = "seven-seals"
QUICK = ("--asapo-consumer-timeout=200", "--asapo-resend-after=2", "--no-data-timeout=20")
COPY = ("--copy-header=truth_id",)
NO_ANALYSIS = ("--peaks=none", "--indexing=none")
DATA = "/entry/data/data"


def msgpack_image(image):
    """A message that is a map with the image alone."""
    pixels = {"type": image.dtype.str, "shape": list(image.shape), "data": image.tobytes()}
    return [msgpack.packb({DATA: pixels})]


ENCODERS = (
    msgpack_image,
    lambda image: [encode_hdf5.encode(image, {}, data=DATA)],
    lambda image: encode_seedee(image, {}, "bslz4"),
    lambda image: encode_cbf(image, {}),
)
"""An image to the parts of a message without header values; the last part is the payload."""


@pytest.fixture(autouse=True)
def no_token_in_files(tmp_path):
    """Whatever a test does, the token is in no file of it: stream, log, records, payloads kept aside."""
    yield
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


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


def test_header_values_come_from_beside_messages_of_every_format_however_late_these_begin(tmp_path):
    frames = live.beamtime(4).frames
    geometry = live.default_geometry(live.SIZE).replace("data = detector_data", f"data = {DATA}")
    live.write_inputs(tmp_path, geometry)
    with StandIn(token=TOKEN) as server:
        server.put("another", b"")
        waiting = ("--asapo-acks", "--asapo-wait-for-stream", *NO_ANALYSIS)
        process = live.start(tmp_path, *words(server, *waiting))
        live.wait_for_word(process, tmp_path, "stream 'run1' of source 'detector' has no data")
        for number, (frame, encode) in enumerate(zip(frames, ENCODERS, strict=True)):
            *meta, payload = encode(frame.image.astype(np.int32))
            values = {"beam_energy": 9000.0 + number, "detector_distance": 150.0 + number, "truth_id": number}
            server.put(STREAM, bytes(payload), meta={**(json.loads(meta[0]) if meta else {}), **values})
        server.finish(STREAM)
        done = live.finish(process, tmp_path)
    assert done.code == 0, done.log
    assert live.numbers(done.chunks) == [0, 1, 2, 3]
    for chunk in done.chunks:
        number = int(chunk.headers["truth_id"])
        assert chunk.serial == number + 1
        assert chunk.photon_energy == pytest.approx(9000 + number, abs=0.01)
        assert float(chunk.headers["detector_distance"]) == 150 + number
        assert chunk.camera_length == pytest.approx((150 + number) / 1e3, abs=1e-6)
    assert done.log.count("has no data") == 1


def test_one_stream_follows_the_other_with_a_finish_flag_and_without(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages[:2], "run2": messages[2:4]}, token=TOKEN) as server:
        server.finish(STREAM, "run2")
        process = live.start(tmp_path, *words(server, "--asapo-acks", "--asapo-follow", *NO_ANALYSIS))
        server.store.wait_until(lambda: len(server.group("run2", "g1").acknowledged) == 2, live.PATIENCE)
        for payload in messages[4:]:
            server.put("run3", payload)
        server.store.wait_until(lambda: len(server.group("run3", "g1").acknowledged) == 4, live.PATIENCE)
        process.send_signal(signal.SIGINT)
        done = live.finish(process, tmp_path)
    assert done.code == 0, done.log
    assert live.numbers(done.chunks) == list(range(len(messages)))
    text = (tmp_path / "test.stream").read_text()
    assert [text.count(f"gpuidx/asapo_stream = run{n}\n") for n in (1, 2, 3)] == [2, 2, 4]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--asapo-token=wrong", "refuses us: "), ("--asapo-beamtime=wrong", "refuses us: "),
        ("--asapo-endpoint=127.0.0.1:1", "cannot be used: "),
        ("--asapo-endpoint=SILENT", "does not answer within "),
    ],
)  # fmt: skip
def test_a_service_that_cannot_be_used_is_one_line_before_anything_is_begun(tmp_path, messages, wrong, said):
    with StandIn(streams={STREAM: messages[:1]}, token=TOKEN) as server, silent_address() as silent:
        option = wrong.partition("=")[0]
        given = [word for word in words(server) if not word.startswith(option + "=")]
        done = live.run(tmp_path, *given, wrong.replace("SILENT", silent))
    assert done.code == 1
    (line,) = done.log.splitlines()
    assert line.startswith("gpuidx: ASAP::O at 127.0.0.1:")
    assert said in line
    assert not (tmp_path / "test.stream").exists()


@contextmanager
def silent_address():
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc: run it on Linux")
def test_the_token_is_in_no_process(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages[:2]}, token=TOKEN) as server:
        given = words(server, "--asapo-acks", "--asapo-output-stream", "--debug", *NO_ANALYSIS)
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
    assert TOKEN not in done.out


def descendants(pid):
    """Process numbers of a process and all below it."""
    found = [pid]
    for one in found:
        found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found
