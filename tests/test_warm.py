# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compiled ahead goes the whole way: a frame that does not index would leave half of it out."""

from gpuidx import warm
from gpuidx.model import PIXEL_TYPES


def test_a_frame_of_each_pixel_type_is_indexed_while_compiling_ahead() -> None:
    assert len(PIXEL_TYPES) == warm.INDEXED
