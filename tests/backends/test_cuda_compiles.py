# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels under NVIDIA's compilers, for every architecture; and the table of docs/kernels.md."""

import emulator
import pytest
from backends import kernel_resources
from backends.kernel_resources import CHOICES, FEW_ARCHS, MAJORS, USUAL, VARIED_ARCH, Variant
from thorough import thorough

from gpuidx.backends.cuda import sources
from gpuidx.backends.cuda.kernels import signatures

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=["few", pytest.param("usual", marks=thorough)])
def rows(request):
    emulator.need(*(f"nvrtc {major}" for major in MAJORS))
    return kernel_resources.compile_all(request.param)


def test_every_file_of_kernels_is_compiled():
    assert {path.name for path in sources.folder().glob("*.cu")} == {variant.file for variant in USUAL}


def test_a_few_variants_have_every_pair_of_choices():
    variants = kernel_resources.covering_variants()
    every = kernel_resources.all_variants()
    wanted = set().union(*map(kernel_resources.pairs_of, every))
    assert set().union(*map(kernel_resources.pairs_of, variants)) == wanted
    assert len(variants) < len(every) / 4


def test_every_kernel_compiles_within_its_limits_for_every_architecture(rows):
    assert [fault for row in rows for fault in row.faults()] == []


def test_no_architecture_type_or_choice_is_left_out(rows):
    assert set(FEW_ARCHS) <= {row.arch for row in rows}
    varied = [row.variant for row in rows if row.arch == VARIED_ARCH]
    for name, values in CHOICES.items():
        assert {getattr(variant, name) for variant in varied} == set(values)
    files = sources.folder().glob("*.cu")
    assert {row.kernel for row in rows} == set().union(*(signatures(file.read_text()) for file in files))


def test_the_table_in_the_documentation_is_that_of_the_kernels(rows, pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "kernels.md").read_text()
    stated = kernel_resources.stated_table(text)
    present = kernel_resources.table(rows)
    if kernel_resources.versions(stated) == kernel_resources.versions(present):
        found = kernel_resources.registers(present)
        assert found.items() <= kernel_resources.registers(stated).items(), (
            "scripts/kernel-table --write brings it up to date"
        )
    else:  # another compiler has other figures
        assert kernel_resources.kernel_names(stated) == kernel_resources.kernel_names(present)


def test_a_kernel_over_a_limit_is_a_fault():
    fine = kernel_resources.Row("13.5", 90, Variant(), "clip_rings", registers=64)
    assert fine.faults() == []
    for over in ({"registers": 65}, {"stack": 8}, {"spill_loads": 4}, {"spill_stores": 4}, {"log": "error"}):
        assert len(kernel_resources.Row(**(vars(fine) | over)).faults()) == 1, over
    queue = kernel_resources.Row("13.5", 90, Variant(), "grow_peaks", registers=40, stack=800)
    assert queue.faults() == []
