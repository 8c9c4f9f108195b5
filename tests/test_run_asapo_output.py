# SPDX-License-Identifier: GPL-3.0-or-later
"""Hits sent on: the program between the stand-in and itself, with the real libraries."""

import live
from simulation.asapo.client import need_library

from gpuidx.simulation.asapo.cache import payload_bytes
from gpuidx.simulation.asapo.server import StandIn

need_library("asapo_consumer")
need_library("asapo_producer")

STREAM = "run1"
HITS = "detector_hits"
TOKEN = "seven-seals"


def words(server, *more):
    """The command line of a run on the server."""
    return (
        f"--asapo-endpoint={server.endpoint}", f"--asapo-token={server.token}",
        f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", "--asapo-group=g1",
        f"--asapo-stream={STREAM}", "--asapo-consumer-timeout=200", "--asapo-output-stream", *live.PEAKS,
        *more,
    )  # fmt: skip


def test_hits_are_sent_on_as_they_came_until_the_service_fails_which_costs_the_stream_nothing(tmp_path):
    live.write_inputs(tmp_path)
    payloads, values = live.beamtime(8).messages, {"größe": [1.5, None], "names": {"a": "b"}}
    with StandIn(token=TOKEN) as server:
        for payload in payloads[:6]:
            server.put(STREAM, payload, meta=values)
        process = live.start(tmp_path, *words(server, "--asapo-acks", "-j2"))

        def sent():
            return server.store.streams(HITS)[0].messages if server.store.streams(HITS) else {}

        assert server.store.wait_until(lambda: len(sent()) == 6, live.PATIENCE), (
            tmp_path / "log"
        ).read_text()
        server.down("receiver")
        for payload in payloads[6:]:
            server.put(STREAM, payload, meta=values)
        server.finish(STREAM)
        done = live.finish(process, tmp_path)
        assert done.code == 0, done.log
        is_hit = {chunk.serial: chunk.hit for chunk in done.chunks}
        assert set(is_hit) == set(range(1, 9)) == server.group(STREAM, "g1").acknowledged
        assert set(sent()) == set(range(1, 7))
        for number, message in sent().items():
            kind, payload = (
                ("data", payloads[number - 1]) if is_hit[number] else ("placeholder", b"SKIPPED\0")
            )
            assert message.name == f"processed/run1_hits/run1-{number}.{kind}"
            assert payload_bytes(server.store.cache.get(message.cache_id)) == payload
            assert message.meta == values
        n_hit = sum(is_hit[number] for number in sent())
        assert 0 < n_hit < 6
        n_sent = done.count("hits sent on to ASAP::O") + done.count("placeholders sent on to ASAP::O")
        n_left = done.count("messages not sent on to ASAP::O: left when the run ended")
        assert n_sent + n_left == 8
        assert 2 <= n_left <= 2 + 4  # the answers to the last ones, one a thread, may be lost
    assert done.log.count("hits are not all sent on to ASAP::O") == 1
    assert "producer_api" not in done.out + done.log
    assert TOKEN not in done.out + done.log + (tmp_path / "test.stream").read_text()
