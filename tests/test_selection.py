# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU or CUDA: what is chosen, and what is said of it."""

import pytest

from gpuidx.errors import BackendError
from gpuidx.options import RunOptions
from gpuidx.selection import decide


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_the_choice_is_told_in_one_line(wanted: str) -> None:
    choice = decide(RunOptions(backend=wanted))
    assert (choice.name, choice.devices) == ("cpu", ())
    assert choice.line.startswith("backend: cpu")
    assert "\n" not in choice.line


def test_cuda_is_refused_where_it_cannot_be_had() -> None:
    with pytest.raises(BackendError, match="--backend=cuda"):
        decide(RunOptions(backend="cuda"))
