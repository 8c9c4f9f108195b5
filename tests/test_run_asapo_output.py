# SPDX-License-Identifier: GPL-3.0-or-later
"""Hits sent on: the program between the stand-in and itself, with the real libraries."""

import live
import pytest
from simulation.asapo.client import need_library

from gpuidx.simulation.asapo.cache import payload_bytes
from gpuidx.simulation.asapo.server import StandIn

need_library("asapo_consumer")
need_library("asapo_producer")

STREAM = "run1"
HITS = "detector_hits"
TOKEN = "seven-seals"


@pytest.fixture
def messages():
    """Payloads of a few frames, of which some are hits."""
    return live.beamtime(8).messages


def words(server, *more):
    """The command line of a run on the server."""
    return (
        f"--asapo-endpoint={server.endpoint}", f"--asapo-token={server.token}",
        f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", "--asapo-group=g1",
        f"--asapo-stream={STREAM}", "--asapo-consumer-timeout=200", "--asapo-output-stream", *live.PEAKS,
        *more,
    )  # fmt: skip


def test_hits_are_sent_on_as_they_came_and_placeholders_for_the_rest(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(token=TOKEN) as server:
        for number, payload in enumerate(messages, 11):
            server.put(STREAM, payload, message_id=number, meta={"number": number, "größe": [1.5, None]})
        server.finish(STREAM)
        done = live.run(tmp_path, *words(server, "--asapo-acks", "-j2"))
        assert done.code == 0, done.log
        (stream,) = server.store.streams(HITS)
        is_hit = {chunk.serial: chunk.hit for chunk in done.chunks}
        assert set(is_hit.values()) == {True, False}
        assert set(stream.messages) == set(is_hit) == set(range(11, 11 + len(messages)))
        for number, sent in stream.messages.items():
            kind, payload = (
                ("data", messages[number - 11]) if is_hit[number] else ("placeholder", b"SKIPPED\0")
            )
            assert sent.name == f"processed/run1_hits/run1-{number}.{kind}"
            assert payload_bytes(server.store.cache.get(sent.cache_id)) == payload
            assert sent.meta == {"number": number, "größe": [1.5, None]}
        assert done.count("hits sent on to ASAP::O") == sum(is_hit.values())
        assert done.count("placeholders sent on to ASAP::O") == len(is_hit) - sum(is_hit.values())
        assert stream.next_stream is None
    assert "producer_api" not in done.out + done.log
    assert TOKEN not in done.out + done.log


def test_service_that_takes_nothing_loses_no_frame_of_the_stream(tmp_path, messages):
    live.write_inputs(tmp_path)
    with StandIn(streams={STREAM: messages}) as server:
        server.finish(STREAM)
        server.down("receiver")
        more = "--asapo-acks", "--no-non-hits-in-stream"
        done = live.run(tmp_path, *words(server, *more))
        assert done.code == 0, done.log
        assert server.group(STREAM, "g1").acknowledged == set(range(1, len(messages) + 1))
        assert done.count("messages not sent on to ASAP::O: left when the run ended") == len(done.chunks) > 0
        assert done.log.count("hits are not all sent on to ASAP::O") == 1
