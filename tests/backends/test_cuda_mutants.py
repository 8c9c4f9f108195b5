# SPDX-License-Identifier: GPL-3.0-or-later
"""That the short proof of the CUDA path would see a defect: it is run on deliberately wrong code."""

import emulator
import pytest
from backends.cuda_proof import findings
from backends.host_mutants import HOST_MUTANTS, STALE_HEADER, changed_function
from backends.kernel_mutants import IN_HEADER, KERNEL_MUTANTS, change_kernels, copy_kernels
from thorough import sample

from gpuidx.backends.cuda import sources

emulator.need("g++", "cupy")


@pytest.fixture
def kernels_folder(tmp_path, monkeypatch):
    folder = copy_kernels(tmp_path)
    monkeypatch.setattr(sources, "folder", lambda: folder)
    return folder


def is_caught(mutant, found) -> bool:
    """Whether *found* has what the mutant says; a mutant that does not compile proves nothing."""
    return not found.isdisjoint(mutant.caught_by.split(" or ")) and "CompileException" not in found


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("pixel", ["i4", "f4"])
def test_the_proof_finds_nothing_in_the_kernels_as_they_are(pixel, check):
    assert findings(check=check, pixel=pixel) == set()


@pytest.mark.parametrize("order", ["eager", 1, 2])
def test_the_proof_finds_nothing_in_any_order_of_the_streams(order):
    assert findings(order=order) == set()


@pytest.mark.parametrize("mutant", sample(KERNEL_MUTANTS, 5), ids=lambda mutant: mutant.says)
def test_a_defect_of_a_kernel_is_caught(mutant, kernels_folder):
    change_kernels(kernels_folder, mutant)
    found = findings(check=mutant.check, pixel=mutant.pixel)
    assert is_caught(mutant, found), found


@pytest.mark.parametrize("mutant", sample(HOST_MUTANTS, 5), ids=lambda mutant: mutant.says)
def test_a_defect_of_the_host_is_caught(mutant, monkeypatch):
    monkeypatch.setattr(mutant.owner, mutant.name, changed_function(mutant))
    found = findings()
    assert is_caught(mutant, found), found


def test_a_slot_that_is_used_again_too_early_is_caught():
    found = findings(between=lambda number, frames: [frame.image.fill(0) for frame in frames])
    assert "peaks" in found, found


@pytest.mark.parametrize("is_stale", [False, True], ids=["with the hash", "without the hash"])
def test_a_changed_header_counts_only_with_its_hash(is_stale, kernels_folder, monkeypatch):
    if is_stale:
        function = changed_function(STALE_HEADER)
        monkeypatch.setattr(STALE_HEADER.owner, STALE_HEADER.name, function)
    good = {file: file.read_text() for file in kernels_folder.iterdir()}
    header = change_kernels(kernels_folder, IN_HEADER)
    assert header.suffix == ".cuh"
    assert is_caught(IN_HEADER, findings())
    header.write_text(good[header])
    found = findings()
    assert is_caught(STALE_HEADER, found) if is_stale else found == set()
