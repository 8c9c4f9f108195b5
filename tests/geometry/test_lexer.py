# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines and numbers of geometry files, as C reads them."""

import ctypes
import ctypes.util
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.geometry.lexer import (
    Remarks,
    Statement,
    direction,
    literal,
    read_integer,
    read_number,
    statements,
)

C = ctypes.CDLL(ctypes.util.find_library("c") or None)
C.strtod.restype = ctypes.c_double
C.strtod.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]

NUMBERS = st.text(st.sampled_from("0123456789.eE+-xXpPinfatyINF() \t_;a"), max_size=12)


def strtod(text):
    buffer = ctypes.create_string_buffer(text.encode())
    start = ctypes.cast(buffer, ctypes.c_char_p)
    end = ctypes.c_char_p()
    value = C.strtod(start, ctypes.byref(end))
    return value, (end.value or b"").decode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_are_those_of_an_editor(end):
    text = end.join(["; comment", "", "p0/fs = x", "  \t", "clen = 1"])
    assert list(statements(text)) == [Statement(3, "p0", "fs", "x"), Statement(5, None, "clen", "1")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\t p0/fs\t =  +1.0x  ; c", ("p0", "fs", "+1.0x")),
        ("a = b = c", (None, "a", "b = c")),
        ("a/b/c = d", ("a", "b/c", "d")),
        ("p0 /fs = x", ("p0 ", "fs", "x")),
        ("/fs = x", ("", "fs", "x")),
        ("data = /a;b", (None, "data", "/a")),
        ("a =", (None, "a", "")),
        ("junk ; = 3", (None, "junk", None)),
    ],
)
def test_statement(line, expected):
    (found,) = statements(line)
    assert (found.owner, found.key, found.value) == expected


@pytest.mark.parametrize("line", ["", "   ", ";x", " \t; a = b"])
def test_nothing_is_said(line):
    assert list(statements(line)) == []


@given(NUMBERS)
def test_numbers_are_those_of_strtod(text):
    value, rest = read_number(text)
    c_value, c_rest = strtod(text)
    assert rest == c_rest
    assert value == c_value or (math.isnan(value) and math.isnan(c_value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0.0), ("0x1p3", 8.0), ("1e999", math.inf), ("-0x1p9999", -math.inf), ("1 ", None), ("/a", None)],
)
def test_literal_is_all_or_nothing(text, expected):
    assert literal(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", (12, "")),
        (" -3x", (-3, "x")),
        ("+7", (7, "")),
        ("x", (0, "x")),
        ("", (0, "")),
        ("9" * 5000, (2**31 - 1, "")),
        ("0" * 50 + "8", (8, "")),
    ],
)
def test_integers_are_those_of_strtol(text, expected):
    assert read_integer(text) == expected


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("x", (1, 0, 0)),
        ("-y", (0, -1, 0)),
        ("-0.0057x +0.99998y", (-0.0057, 0.99998, 0)),
        ("+1.0z-0.2y", (0, -0.2, 1.0)),
        ("1x+2x", (3, 0, 0)),
        (".5x - .5 y", (0.5, -0.5, 0)),
    ],
)
def test_direction(text, vector):
    assert direction(text) == (vector, False)


@pytest.mark.parametrize(
    ("text", "vector"),
    [("1.2.3x", (1.2, 0, 0)), ("x y", (0, 0, 0)), ("1x2y", (0, 1, 0)), (".x+y", (0, 1, 0))],
)
def test_odd_directions_are_read_as_crystfel_does(text, vector):
    assert direction(text) == (vector, True)


@pytest.mark.parametrize("text", ["", "+", "1", "--x", "+0.0", "1e-3x", "1.0\tx", "w", "1,0x"])
def test_no_direction(text):
    with pytest.raises(ValueError, match=r"stand in a direction|no x, y or z part"):
        direction(text)


def test_remarks_are_in_order_of_lines_and_counted():
    remarks = Remarks()
    remarks.add(None, "nowhere")
    remarks.add(7, "p1 lacks it", "lack")
    remarks.add(3, "first")
    remarks.add(9, "p2 lacks it", "lack")
    remarks.add(11, "p3 lacks it", "lack")
    assert len(remarks) == 3
    assert remarks.shown() == [
        (3, "first"),
        (7, "p1 lacks it (and 2 more like this)"),
        (None, "nowhere"),
    ]


def test_remarks_can_be_shown_on_any_terminal():
    remarks = Remarks()
    remarks.add(1, "a\x1b[2J\udc80å\u2028")
    assert remarks.shown() == [(1, "a\\x1b[2J\\udc80å\\u2028")]
