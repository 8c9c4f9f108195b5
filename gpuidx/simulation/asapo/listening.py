# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP server with a thread for each connection, which can be ended at any time with all of them."""

import socket
import socketserver
import sys
import threading
from typing import Any

TURN = 0.02
"""How often the accepting thread looks whether it is to end, s."""

END_WITHIN = 5.0
"""How long connections may take to end when they are closed, s."""


class Listener(socketserver.ThreadingTCPServer):
    """Serves from the moment it is made until `close`.

    Parameters
    ----------
    host, port
        Where; port 0 takes a free one.
    handler
        What is done with a connection; finds its `StandIn`'s parts in ``server.parts``.
    parts
        Anything.

    Attributes
    ----------
    ending
        Set when it is to end; handlers that wait, wait for this.
    address
        ``host:port``.

    Raises
    ------
    OSError
        If the port cannot be had.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, handler: type[socketserver.BaseRequestHandler], parts: Any
    ) -> None:
        self.parts = parts
        self.ending = threading.Event()
        self._connections: set[socket.socket] = set()
        self._all_ended = threading.Condition()
        super().__init__((host, port), handler)
        self.address = f"{host}:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(TURN,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep the connection in mind, and serve it in a thread of its own."""
        with self._all_ended:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        super().shutdown_request(request)
        with self._all_ended:
            self._connections.discard(request)
            self._all_ended.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that clients break are nothing to speak of."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Accept nothing more, and end all connections."""
        self.ending.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._all_ended:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster
            self._all_ended.wait_for(lambda: not self._connections, END_WITHIN)
