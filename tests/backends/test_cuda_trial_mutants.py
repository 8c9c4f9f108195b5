# SPDX-License-Identifier: GPL-3.0-or-later
"""That the short proof of the trials on a device would see a defect: it is run on wrong kernels."""

import emulator
import pytest
from backends.kernel_mutants import change_kernels, copy_kernels
from backends.trial_mutants import TRIAL_MUTANTS
from backends.trial_proof import findings
from thorough import sample

from gpuidx.backends.cuda import sources

emulator.need("g++", "cupy")


@pytest.mark.parametrize("check", [False, True])
def test_the_proof_finds_nothing_in_the_kernels_as_they_are(check):
    assert findings(check=check) == set()


@pytest.mark.parametrize("mutant", sample(TRIAL_MUTANTS, 5), ids=lambda mutant: mutant.says)
def test_a_defect_of_a_kernel_is_caught(mutant, tmp_path, monkeypatch):
    folder = copy_kernels(tmp_path)
    monkeypatch.setattr(sources, "folder", lambda: folder)
    change_kernels(folder, mutant)
    enough = mutant.caught_by.split(" or ")
    found = findings(check=mutant.check, enough=enough)
    assert not found.isdisjoint(enough), found
    assert "CompileException" not in found
