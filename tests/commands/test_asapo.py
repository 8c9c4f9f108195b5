# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx asapo`` asks the stand-in server with the real client library."""

import io

import pytest
from simulation.asapo.client import Consumer, need_library

from gpuidx import cli
from gpuidx.secret import TOKEN_VARIABLE
from gpuidx.simulation.asapo.server import StandIn

need_library()

from asapo_consumer import AsapoEndOfStreamError  # noqa: E402

GROUP = "readers"


@pytest.fixture
def server(monkeypatch):
    """Two streams, the first with five messages."""
    with StandIn(streams={"run1": [b"payload"] * 5, "run2": [b"payload"]}) as made:
        monkeypatch.setenv(TOKEN_VARIABLE, made.token)
        yield made


def call(server, word, *more, stream="run1"):
    """The command's exit code."""
    where = [
        f"--asapo-endpoint={server.endpoint}", f"--asapo-beamtime={server.beamtime}",
        f"--asapo-source={server.source}", f"--asapo-group={GROUP}", f"--asapo-stream={stream}",
    ]  # fmt: skip
    return cli.call(["asapo", word, *where, *more])


def test_a_group_is_set_to_the_end_behind_a_message_and_to_the_beginning(server, capsys):
    consumer = Consumer(server)
    assert [consumer.next(GROUP)["_id"] for _ in range(2)] == [1, 2]
    assert call(server, "reset", "--to=end", "--yes") == 0
    with pytest.raises(AsapoEndOfStreamError):
        consumer.next(GROUP)
    assert call(server, "reset", "--to=3", "--yes") == 0
    assert consumer.next(GROUP)["_id"] == 4
    assert call(server, "reset", "--yes") == 0
    assert consumer.next(GROUP)["_id"] == 1
    assert consumer.next("another")["_id"] == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" to ")[2] for line in said] == ["the end", "behind message 3", "the beginning"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ([], 1, "--yes does it"),
        (["--to=6", "--yes"], 2, "--to=6"),
        (["--to=x", "--yes"], 2, "--to=x"),
    ],
)
def test_nothing_is_set_without_an_answer_or_a_place(server, capsys, monkeypatch, more, code, said):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    consumer = Consumer(server)
    consumer.next(GROUP)
    assert call(server, "reset", *more) == code
    assert said in capsys.readouterr().err
    assert consumer.next(GROUP)["_id"] == 2


def test_streams_and_where_a_group_stands(server, capsys):
    server.finish("run1", "run2")
    consumer = Consumer(server)
    for number in (1, 2, 3):
        consumer.next(GROUP)
        consumer.acknowledge(GROUP, number, stream="run1")
    assert call(server, "streams") == 0
    _, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("run1", "5", "yes", "run2"), ("run2", "1", "no", rows[1][-1])
    ]  # fmt: skip
    assert call(server, "status") == 0
    _, row, left = capsys.readouterr().out.splitlines()
    assert row.split() == ["run1", "5", "3", "2"]
    assert left == "  unacknowledged: 4, 5"


def test_a_wrong_token_is_one_line(server, capsys, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    assert call(server, "status") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "refuses us" in line
    assert "wrong token" in line
