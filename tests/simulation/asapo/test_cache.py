# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads in bounded memory."""

from gpuidx.simulation.asapo.cache import Cache


def test_oldest_are_evicted_but_the_newest_never():
    cache = Cache(10)
    numbers = [cache.put(bytes(size), message_id) for message_id, size in enumerate((4, 6, 1, 20), start=1)]
    assert [cache.get(number) for number in numbers] == [None, None, None, bytes(20)]
    assert (cache.held, cache.message_of(numbers[0])) == (20, 1)
    assert cache.put(bytes(2), 5) == numbers[-1] + 1
    assert (cache.held, cache.get(numbers[-1])) == (2, None)


def test_functions_take_no_memory():
    cache = Cache(10)
    numbers = [cache.put(lambda: b"made", message_id) for message_id in range(1, 100)]
    assert cache.held == 0
    assert cache.get(numbers[0])() == b"made"


def test_forgotten_payload_is_nobodys():
    cache = Cache(10)
    number = cache.put(b"x", 7)
    cache.forget(number)
    cache.evict(number)
    assert (cache.held, cache.get(number), cache.message_of(number)) == (0, None, None)
