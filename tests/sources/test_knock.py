# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding out who is at an address."""

import socket
import threading

import pytest
import zmq
from sources.driving import free_address

from gpuidx.sources.knock import Neighbour, knock


@pytest.mark.parametrize("kind", ["PUB", "XPUB", "REP", "ROUTER", "PUSH", "SUB"])
def test_the_type_of_a_socket_is_told(kind):
    with zmq.Context() as context, context.socket(getattr(zmq, kind)) as server:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        assert knock(f"tcp://127.0.0.1:{port}") == Neighbour("", "NULL", kind)


def test_a_local_socket_is_asked_too(tmp_path):
    address = f"ipc://{tmp_path}/s"
    with zmq.Context() as context, context.socket(zmq.PUSH) as server:
        server.bind(address)
        assert knock(address) == Neighbour("", "NULL", "PUSH")
    assert knock(f"ipc://{tmp_path}/other").problem == "no such file or directory"


def test_who_pushes_keeps_its_messages():
    with zmq.Context() as context, context.socket(zmq.PUSH) as server:
        server.linger = 0
        port = server.bind_to_random_port("tcp://127.0.0.1")
        knock(f"tcp://127.0.0.1:{port}")
        assert not server.poll(50, zmq.POLLOUT)


def test_an_encrypting_socket_tells_its_mechanism():
    with zmq.Context() as context, context.socket(zmq.PUB) as server:
        server.curve_publickey, server.curve_secretkey = zmq.curve_keypair()
        server.curve_server = True
        port = server.bind_to_random_port("tcp://127.0.0.1")
        assert knock(f"tcp://127.0.0.1:{port}", 0.5) == Neighbour("", "CURVE", "")


def test_nobody_there_is_a_problem():
    assert knock(free_address()).problem == "connection refused"


def test_what_does_not_speak_zeromq_has_no_mechanism():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(12)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 4)

        thread = threading.Thread(target=answer)
        thread.start()
        assert knock(f"tcp://127.0.0.1:{server.getsockname()[1]}", 0.5) == Neighbour()
        thread.join()
