# SPDX-License-Identifier: GPL-3.0-or-later
"""How a ZeroMQ socket is attached: which end binds, and the keys of an encrypted connection (CURVE)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth

from gpuidx.errors import OptionError


@dataclass(frozen=True, slots=True)
class Wiring:
    """Attributes of all sockets of a source.

    Attributes
    ----------
    bind
        The socket waits for others to connect.
    own_keys
        Public and secret key of this end; None: connections are not encrypted.
    server_key
        Public key of the other end, if that is the one which is bound.
    """

    bind: bool = False
    own_keys: tuple[bytes, bytes] | None = None
    server_key: bytes | None = None

    def secure(self, socket: "zmq.Socket[Any]") -> None:
        """Give a socket its keys, before it is attached."""
        if self.own_keys is None:
            return
        socket.curve_publickey, socket.curve_secretkey = self.own_keys
        if self.server_key is None:
            socket.curve_server = True
        else:
            socket.curve_serverkey = self.server_key


PLAIN = Wiring()


def read_wiring(bind: bool, own_file: str | None, server_file: str | None) -> Wiring:
    """Read key files as `zmq.auth.create_certificates` writes them.

    Without a file of its own an end that connects makes new keys, which servers take that let anyone in.

    Raises
    ------
    OptionError
        If a file cannot be read, or lacks the key that is wanted of it.
    """
    if own_file is None and server_file is None:
        return Wiring(bind)
    if not zmq.has("curve"):
        raise OptionError("this libzmq has no CURVE; --zmq-own-key and --zmq-server-key need it")
    if bind and server_file is not None:
        raise OptionError("with --zmq-bind this end is the server: give --zmq-own-key, no --zmq-server-key")
    if not bind and server_file is None:
        raise OptionError("--zmq-own-key needs --zmq-server-key too, the public key of the server")
    if own_file is None:
        own = zmq.curve_keypair()
    else:
        public, secret = _keys("--zmq-own-key", own_file)
        if secret is None:
            raise OptionError(f"--zmq-own-key={own_file} holds no secret key; give the .key_secret file")
        own = public, secret
    return Wiring(bind, own, None if server_file is None else _keys("--zmq-server-key", server_file)[0])


def _keys(option: str, file: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(Path(file))
    except (OSError, ValueError) as error:
        raise OptionError(f"{option}={file}: no key file of ZeroMQ ({error})") from error
    if any(key is not None and len(key) != 40 for key in (public, secret)):
        raise OptionError(f"{option}={file}: a key has 40 characters")
    return public, secret
