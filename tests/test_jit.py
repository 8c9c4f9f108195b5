# SPDX-License-Identifier: GPL-3.0-or-later
"""Where compiled code is kept, and that arithmetic stays as written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from gpuidx.jit import jit

CODE = "import os, gpuidx.jit as j; print(j._temporary_cache())"


def _cache_in(folder: Path) -> Path:
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def test_last_resort_of_the_cache_is_private_and_kept(tmp_path: Path) -> None:
    first, second = _cache_in(tmp_path), _cache_in(tmp_path)
    assert first == second
    assert first.stat().st_mode & 0o077 == 0


def test_cache_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    open_folder = _cache_in(tmp_path)
    open_folder.chmod(0o777)
    assert _cache_in(tmp_path) != open_folder


@jit
def _sum_of_products(a: np.ndarray, b: np.ndarray) -> np.float32:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


def test_sums_keep_their_order_and_are_not_fused() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 2000)).astype(np.float32)
    total = np.float32(0)
    for x, y in zip(a, b, strict=True):
        total = np.float32(total + np.float32(x * y))
    assert _sum_of_products(a, b) == total
