# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages damaged at random: the same damage for the same number of a case."""

import random
import re
import struct

HEAD = 1500
"""Bytes at the beginning of a part that are damaged more often: most of what can go wrong is there."""

NUMBERS = (0, 1, 2, 7, 8, 255, 256, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)

DIGITS = (b"0", b"-1", b"1e999", b"NaN", b"4294967296", b"99999999999999999999", b"null", b"[]", b"{}", b'""')


_NUMBER = re.compile(rb"[0-9]+")


def damaged(parts: list[bytes], seed: int, case: int) -> list[bytes]:
    """The parts of a message after a few random changes."""
    rng = random.Random(seed << 40 | case)
    parts = list(parts)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        # The last part is the longest, the first says what is in it.
        which = rng.choice((0, -1, rng.randrange(len(parts))))
        parts[which] = one_change(parts[which], rng)
    if len(parts) > 1 and rng.random() < 0.02:
        rng.shuffle(parts)
    if len(parts) > 1 and rng.random() < 0.01:
        del parts[rng.randrange(len(parts))]
    return parts


def one_change(part: bytes, rng: random.Random) -> bytes:
    """A part with bytes changed, left out, put in, or repeated."""
    if not part:
        return rng.randbytes(rng.randrange(1, 40))
    end = min(len(part), HEAD) if rng.random() < 0.7 else len(part)
    at = rng.randrange(end)
    change = rng.randrange(10)
    if change < 3:
        return part[:at] + bytes([rng.randrange(256)]) + part[at + 1 :]
    if change == 3:
        return part[:at] + bytes([part[at] ^ 1 << rng.randrange(8)]) + part[at + 1 :]
    if change == 4:
        letters = rng.choice((">B", ">H", "<H", ">I", "<I", ">Q", "<Q"))
        size = struct.calcsize(letters)
        number = struct.pack(letters, rng.choice(NUMBERS) % 2 ** (8 * size))
        return part[:at] + number + part[at + size :]
    if change == 5:
        return part[:at]
    if change == 6:
        return part[:at] + part[at + rng.randrange(1, 20) :]
    if change == 7:
        return part[:at] + rng.randbytes(rng.randrange(1, 20)) + part[at:]
    if change == 8:
        return part[:at] + part[at : at + rng.randrange(1, 200)] * rng.choice((2, 30)) + part[at:]
    return digits_changed(part, at, rng)


def digits_changed(part: bytes, at: int, rng: random.Random) -> bytes:
    """Text with the next number replaced; for numbers in JSON and headers."""
    number = _NUMBER.search(part, at)
    begin, end = number.span() if number else (len(part), len(part))
    return part[:begin] + rng.choice(DIGITS) + part[end:]
