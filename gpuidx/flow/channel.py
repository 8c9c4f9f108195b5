# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets between main and a child: whole or not at all, whatever happens to the sender.

A packet is a MsgPack list of tuples.  It is sent in pieces of at most `PIECE` bytes, so that none is larger
than a socket's buffer; a packet whose last piece never came is dropped.  Main never blocks: what does not go
at once waits in `MainEnd` until the socket can be written.  A child blocks in both directions.
"""

import errno
import select
import socket
import struct
from collections import deque
from typing import Any

import msgpack

PIECE = 1 << 16
"""Bytes of a packet that are sent at once; Linux allows 212 kB in its default settings."""

_MOST = 1 << 28
_READ = PIECE + 64
_HEAD = struct.Struct("!I")
_MORE, _LAST = b"\1", b"\0"
_FULL = {errno.EAGAIN, errno.ENOBUFS}  # the second is macOS' word for a full socket


def pack(items: list[Any]) -> bytes:
    """Pack a list of tuples; file names that are not UTF-8 survive."""
    packed: bytes = msgpack.packb(items, unicode_errors="surrogatepass")
    return packed


def unpack(packet: bytes) -> tuple[Any, ...]:
    """Unpack what `pack` made; lists come as tuples.

    Raises
    ------
    ValueError
        If *packet* is not a MsgPack list.
    """
    try:
        items = msgpack.unpackb(packet, use_list=False, strict_map_key=False, unicode_errors="surrogatepass")
    except Exception as error:  # MsgPack's own errors have no common root
        raise ValueError(f"not MsgPack: {type(error).__name__}: {error}") from error
    if not isinstance(items, tuple):
        raise ValueError(f"a {type(items).__name__} instead of a list")
    return items


class _End:
    """What both ends share: cutting packets into pieces and joining them again."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._in_packets = sock.type == getattr(socket, "SOCK_SEQPACKET", None)
        self._buffer = bytearray()

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the channel; the other side sees the end of file."""
        self._socket.close()

    def _pieces(self, packet: bytes) -> list[bytes]:
        if not self._in_packets:
            return [_HEAD.pack(len(packet)) + packet]
        if len(packet) < PIECE:
            return [_LAST + packet]
        starts = range(0, len(packet), PIECE)
        return [
            (_MORE if start + PIECE < len(packet) else _LAST) + packet[start : start + PIECE]
            for start in starts
        ]

    def _join(self, data: bytes) -> list[bytes]:
        """Give the packets that are whole with *data*, what one read gave.

        Raises
        ------
        ValueError
            If the length of a packet is absurd: the sender is out of its mind.
        """
        if self._in_packets:
            return self._join_pieces(data)
        self._buffer += data
        packets, place = [], 0
        while len(self._buffer) >= place + _HEAD.size:
            (length,) = _HEAD.unpack_from(self._buffer, place)
            if length > _MOST:
                raise ValueError(f"a packet of {length} bytes")
            end = place + _HEAD.size + length
            if len(self._buffer) < end:
                break
            packets.append(bytes(self._buffer[place + _HEAD.size : end]))
            place = end
        del self._buffer[:place]
        return packets

    def _join_pieces(self, piece: bytes) -> list[bytes]:
        if piece[:1] == _MORE:
            self._buffer += memoryview(piece)[1:]
            if len(self._buffer) > _MOST:
                raise ValueError(f"a packet of more than {_MOST} bytes")
            return []
        if not self._buffer:
            return [piece[1:]]
        packet = bytes(self._buffer) + piece[1:]
        self._buffer.clear()
        return [packet]


class MainEnd(_End):
    """Main's end: never blocks, and reads what a dead child had sent before it notices the death.

    Attributes
    ----------
    nonsense
        What was wrong with the bytes that came, if they made no sense; the rest is then thrown away.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._unsent: deque[bytes] = deque()
        self.nonsense = ""

    def post(self, packet: bytes) -> bool:
        """Send *packet*, now or later; gives False if some of it waits for `flush`."""
        self._unsent.extend(self._pieces(packet))
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as it goes; gives whether nothing is left.

        Errors are not reported: a dead child shows when it is read from.
        """
        while self._unsent:
            piece = self._unsent[0]
            try:
                sent = self._socket.send(piece)
            except OSError as error:
                if error.errno in _FULL:
                    return False
                self._unsent.clear()
                break
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
                return False
            self._unsent.popleft()
        return True

    def read(self) -> tuple[list[bytes], bool]:
        """Give the packets that have arrived, and whether the end of file was reached."""
        packets: list[bytes] = []
        resets = 0
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return packets, False
            except ConnectionResetError:
                # Comes once, before what is there to be read, if the child died with packets of ours unread.
                resets += 1
                if resets > 2:
                    return packets, True
                continue
            if not data:
                return packets, True
            if not self.nonsense:
                try:
                    packets += self._join(data)
                except ValueError as error:
                    self.nonsense = str(error)


class ChildEnd(_End):
    """A child's end: blocks until there is something, but for `poll`."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)
        self._packets: deque[bytes] = deque()

    def send(self, packet: bytes) -> None:
        """Send *packet*.

        Raises
        ------
        ConnectionError
            If main is gone.
        """
        for piece in self._pieces(packet):
            self._socket.sendall(piece)

    def receive(self) -> bytes | None:
        """Wait for a packet; None at the end of file."""
        while not self._packets:
            try:
                data = self._socket.recv(_READ)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._packets.extend(self._join(data))
        return self._packets.popleft()

    def poll(self, timeout: float | None) -> list[bytes] | None:
        """Give all packets that are there; None at the end of file.

        Parameters
        ----------
        timeout
            s to wait for the first, down to microseconds; None: without limit.
        """
        packets: list[bytes] = []
        if not self._packets and not select.select([self._socket], [], [], timeout)[0]:
            return packets
        try:
            while data := self._socket.recv(_READ, socket.MSG_DONTWAIT):
                self._packets.extend(self._join(data))
        except (BlockingIOError, ConnectionResetError):
            ended = False
        else:
            ended = True
        packets += self._packets
        self._packets.clear()
        return packets or (None if ended else packets)
