# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted connections, and what is wrong with key files."""

from typing import Any

import pytest
import zmq
import zmq.auth
from sources.driving import Loop, bind_when_free, frame, free_address

from gpuidx.errors import OptionError
from gpuidx.sources.unasked import Unasked
from gpuidx.sources.wiring import read_wiring

pytestmark = pytest.mark.skipif(
    not zmq.has("curve"), reason="this libzmq has no CURVE: install pyzmq's wheel"
)


@pytest.fixture
def keys(tmp_path):
    """Key files: of the server and of a client, public and secret."""
    names = {}
    for name in ("server", "client", "stranger"):
        names[name], names[name + " secret"] = zmq.auth.create_certificates(tmp_path, name)
    return names


def push(context: Any, keys, own: str, server: str | None, address: str, bind: bool) -> Any:
    socket = context.socket(zmq.PUSH)
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(keys[own + " secret"])
    if server is None:
        socket.curve_server = True
    else:
        socket.curve_serverkey = zmq.auth.load_certificate(keys[server])[0]
    if bind:
        bind_when_free(socket, address)
    else:
        socket.connect(address)
    return socket


@pytest.mark.parametrize("own", ["client secret", None])
def test_frames_come_from_a_server_whose_key_is_known(keys, own):
    with zmq.Context() as context:
        socket = push(context, keys, "server", None, "tcp://127.0.0.1:*", bind=True)
        wiring = read_wiring(False, own and keys[own], keys["server"])
        with Loop(Unasked([socket.getsockopt_string(zmq.LAST_ENDPOINT)], True, None, wiring)) as loop:
            socket.send(frame(7))
            loop.receive(1)
            assert loop.numbers == [7]
        socket.close(0)


def test_a_sender_with_the_wrong_key_is_not_listened_to(keys):
    address = free_address()
    wiring = read_wiring(True, keys["server secret"], None)
    with zmq.Context() as context, Loop(Unasked([address], True, None, wiring)) as loop:
        wrong = push(context, keys, "client", "stranger", address, bind=False)
        right = push(context, keys, "client", "server", address, bind=False)
        wrong.setsockopt(zmq.IMMEDIATE, 1)
        wrong.send(frame(1), zmq.NOBLOCK) if wrong.poll(0, zmq.POLLOUT) else None
        right.send(frame(2))
        loop.receive(1)
        assert loop.numbers == [2]
        wrong.close(0)
        right.close(0)


def test_what_is_wrong_with_keys_is_said(keys, tmp_path):
    short = tmp_path / "short.key"
    short.write_text('curve\n    public-key = "abc"\n')
    for bind, own, server, text in (
        (False, None, str(tmp_path / "absent"), "--zmq-server-key=.*absent: no key file"),
        (False, keys["client"], keys["server"], "holds no secret key"),
        (False, keys["client secret"], None, "needs --zmq-server-key"),
        (True, keys["server secret"], keys["client"], "no --zmq-server-key"),
        (False, None, str(short), "40 characters"),
        (False, None, __file__, "no key file"),
    ):
        with pytest.raises(OptionError, match=text):
            read_wiring(bind, own, server)
