# SPDX-License-Identifier: GPL-3.0-or-later
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.flow.channel import PIECE, ChildEnd, MainEnd, pack, unpack

KINDS = [socket.SOCK_SEQPACKET, socket.SOCK_STREAM]


@pytest.fixture(params=KINDS, ids=["packets", "stream"])
def ends(request):
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    main, child = MainEnd(ours), ChildEnd(theirs)
    yield main, child
    main.close()
    child.close()


def test_packets_come_in_order_and_whole(ends):
    main, child = ends
    sizes = [0, 1, PIECE - 1, PIECE, PIECE + 1, 5]
    for i, size in enumerate(sizes):
        child.send(bytes([i]) * size)
    packets, ended = main.read()
    assert packets == [bytes([i]) * size for i, size in enumerate(sizes)]
    assert not ended


def test_main_never_waits_for_a_child_that_does_not_read(ends):
    main, child = ends
    data = bytes(range(256)) * 20_000
    assert not main.post(data)
    assert not main.post(b"second")
    got = []
    reader = threading.Thread(target=lambda: got.extend([child.receive(), child.receive()]))
    reader.start()
    while not main.flush():
        assert reader.is_alive()
    reader.join(10)
    assert got == [data, b"second"]


def test_a_packet_cut_by_the_end_of_file_is_dropped(ends):
    main, child = ends
    child.send(b"whole")
    pieces = child._pieces(b"x" * (3 * PIECE))
    child._socket.send(pieces[0][:1000] if len(pieces) == 1 else pieces[0])
    child.close()
    assert main.read() == ([b"whole"], True)
    assert not main.nonsense


def test_what_a_dead_child_had_sent_is_read_although_it_left_packets_unread(ends):
    main, child = ends
    main.post(b"never read")
    child.send(b"answer")
    child.close()
    assert main.read() == ([b"answer"], True)
    assert main.post(b"to nobody")


def test_a_child_sees_the_end_of_main(ends):
    main, child = ends
    child.send(b"never read")
    main.post(b"last")
    main.close()
    assert list(iter(child.receive, None)) in ([], [b"last"])
    with pytest.raises(ConnectionError):
        child.send(b"to nobody")


def test_an_absurd_length_is_nonsense_and_what_was_before_is_kept():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    main = MainEnd(ours)
    theirs.sendall(b"\0\0\0\2ab")
    assert main.read() == ([b"ab"], False)
    theirs.sendall(b"\xff\xff\xff\xffmore")
    theirs.close()
    assert main.read() == ([], True)
    assert "4294967295 bytes" in main.nonsense
    main.close()


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 20))
def test_a_stream_cut_anywhere_joins_to_the_same_packets(packets, step):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    end = MainEnd(ours)
    data = b"".join(piece for packet in packets for piece in end._pieces(packet))
    joined = [p for i in range(0, len(data), step) for p in end._join(data[i : i + step])]
    assert joined == packets
    end.close()
    theirs.close()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
    | st.characters(categories=["Cs"]) | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=10,
)  # fmt: skip


@given(st.lists(values, max_size=5))
def test_unpack_undoes_pack(items):
    assert unpack(pack(items)) == tuple(items)


@given(st.binary(max_size=100))
def test_any_bytes_are_unpacked_or_refused(data):
    try:
        assert isinstance(unpack(data), tuple)
    except ValueError:
        return


def test_a_child_can_ask_for_all_packets_without_waiting(ends):
    main, child = ends
    assert child.poll(0) == []
    for packet in (b"a", b"b" * (PIECE + 1), b"c"):
        main.post(packet)
    got = []
    while len(got) < 3:
        got += child.poll(1.0)
    assert got == [b"a", b"b" * (PIECE + 1), b"c"]
    assert child.poll(0.001) == []


def test_a_child_gets_what_came_before_the_end_and_then_the_end(ends):
    main, child = ends
    main.post(b"last")
    main.close()
    assert child.poll(None) == [b"last"]
    assert child.poll(None) is None


def test_a_child_gets_the_end_although_main_did_not_read_its_answers(ends):
    main, child = ends
    child.send(b"answer")
    main.close()
    while (packets := child.poll(1.0)) is not None:
        assert packets == []
