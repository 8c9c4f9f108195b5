# SPDX-License-Identifier: GPL-3.0-or-later
"""Candidates become crystals, or not, as the options say."""

from dataclasses import replace

import numpy as np
import pytest
from indexing.stills import TILTED, Still, candidate_of, geometry_of, make_still, random_turn
from millepede import measurements

from gpuidx.cell import UnitCell, cell_parameters, real_axes
from gpuidx.indexing.lattices import Acceptance
from gpuidx.indexing.observed import peaks_of
from gpuidx.indexing.solutions import Solution
from gpuidx.lattice import misorientation, primitive_axes, same_lattice
from gpuidx.model import Candidate, PeakList
from gpuidx.options import IndexOptions, IntegrationOptions

LYSO = UnitCell(parameters=(79.0, 79.0, 38.0, 90.0, 90.0, 90.0), lattice_type="tetragonal", unique_axis="c")
MONO = UnitCell(
    parameters=(90.5, 44.3, 64.2, 90.0, 107.5, 90.0),
    lattice_type="monoclinic",
    centering="C",
    unique_axis="b",
)
NOTES = ["residual_before_constraints", "initial_residual", "final_residual"]


def made(cell=LYSO, geometry=None, radius=None, **options):
    return Acceptance(
        geometry or geometry_of(),
        cell,
        IndexOptions(**options),
        IntegrationOptions(fix_profile_radius=radius),
    )


def accepted(acceptance, still, *candidates):
    return acceptance.crystals(still.frame, still.peaks, candidates)


def disturbed(still, cell, number=0, **values):
    return candidate_of(still.axes[number], cell.centering, number, **values)


@pytest.mark.parametrize("cell", [LYSO, MONO], ids=["tetragonal P", "monoclinic C"])
def test_a_good_candidate_becomes_a_crystal_of_the_target(cell):
    still = make_still(geometry_of(), cell, 1)
    (crystal,) = accepted(made(cell), still, disturbed(still, cell))
    axes = np.linalg.inv(crystal.recip).T
    assert same_lattice(primitive_axes(axes, cell.centering), primitive_axes(still.axes[0], cell.centering))[
        0
    ]
    np.testing.assert_allclose(cell_parameters(axes), cell.parameters, rtol=2e-3)
    assert (crystal.lattice_type, crystal.centering, crystal.unique_axis) == (
        cell.lattice_type,
        cell.centering,
        cell.unique_axis,
    )
    assert crystal.score == 100.0
    assert crystal.shift == (0.0, 0.0)
    assert 0.0002 < crystal.profile_radius < 0.001
    assert 0.2 < crystal.resolution_limit < still.frame.detector.max_q / still.frame.wavelength
    assert list(crystal.residuals) == NOTES
    for total, *parts in crystal.residuals.values():
        assert total == pytest.approx(sum(parts))
    assert crystal.residuals["final_residual"][0] < crystal.residuals["initial_residual"][0]
    assert crystal.reflections is None


def test_refinement_can_be_turned_off():
    still = make_still(geometry_of(), MONO, 1)
    candidate = disturbed(still, MONO)
    (crystal,) = accepted(made(MONO, refine=False), still, candidate)
    assert crystal.residuals == {}
    primitive = primitive_axes(np.linalg.inv(crystal.recip).T, "C")
    M = np.rint(primitive @ np.linalg.inv(candidate.axes))
    np.testing.assert_allclose(primitive, M @ candidate.axes, rtol=1e-9, atol=1e-9)


def test_another_cell_is_refused_unless_it_is_not_checked():
    other = UnitCell(parameters=(60.0, 70.0, 80.0, 85.0, 95.0, 100.0))
    still = make_still(geometry_of(), other, 2)
    candidate = disturbed(still, other)
    assert accepted(made(LYSO), still, candidate) == ()
    (crystal,) = accepted(made(LYSO, check_cell=False), still, candidate)
    assert (crystal.lattice_type, crystal.centering, crystal.unique_axis) == ("triclinic", "P", "*")
    # the target's type was not forced on it
    found = np.linalg.inv(crystal.recip).T
    assert same_lattice(found, still.axes[0])[1] < 0.1
    np.testing.assert_allclose(sorted(cell_parameters(found)[:3]), (60.0, 70.0, 80.0), rtol=5e-3)


def test_an_unchecked_cell_that_matches_is_taken_in_the_targets_setting():
    still = make_still(geometry_of(), LYSO, 1)
    candidate = disturbed(still, LYSO)
    (checked,) = accepted(made(LYSO), still, candidate)
    (unchecked,) = accepted(made(LYSO, check_cell=False), still, candidate)
    np.testing.assert_array_equal(unchecked.recip, checked.recip)
    assert unchecked.lattice_type == "tetragonal"


def test_a_cell_without_parameters_is_not_checked():
    still = make_still(geometry_of(), LYSO, 1)
    bare = UnitCell(parameters=None, lattice_type="tetragonal", unique_axis="c")
    (crystal,) = accepted(made(bare), still, disturbed(still, LYSO))
    assert crystal.lattice_type == "triclinic"


def test_the_cell_must_match_after_refinement_too():
    # 4.9 % off as it was found, 5.1 % off in truth
    narrow = UnitCell(parameters=(79.0, 79.0, 38.0, 90.0, 90.0, 90.0), lattice_type="triclinic")
    true = UnitCell(parameters=(79.0, 79.0, 38.0 / 0.949, 90.0, 90.0, 90.0), lattice_type="triclinic")
    still = make_still(geometry_of(), true, 3, n_peak=120)
    found = still.axes[0] * np.array([[1.0], [1.0], [0.949 / 0.9515]])
    candidate = Candidate(axes=found[[2, 0, 1]], shift=np.zeros(2), score=100.0)
    assert accepted(made(narrow), still, candidate) == ()
    assert len(accepted(made(narrow, refine=False), still, candidate)) == 1


def test_a_lattice_must_explain_half_of_the_peaks():
    still = make_still(geometry_of(), LYSO, 1, n_peak=40, spurious=0.6)
    candidate = disturbed(still, LYSO)
    assert accepted(made(retry=False), still, candidate) == ()
    assert len(accepted(made(check_peaks=False), still, candidate)) == 1
    # the strongest peaks are the lattice's own
    assert len(accepted(made(retry=True), still, candidate)) == 1


def test_no_peaks_or_no_candidates_give_no_crystal():
    still = make_still(geometry_of(), LYSO, 1)
    empty = still.peaks.select(np.zeros(len(still.peaks), bool))
    assert made().crystals(still.frame, empty, [disturbed(still, LYSO)]) == ()
    assert accepted(made(), still) == ()


@pytest.mark.parametrize("n_peak", [1, 2, 3, 4])
def test_too_few_peaks_give_no_refined_crystal(n_peak):
    still = make_still(geometry_of(), LYSO, 1, n_peak=n_peak)
    assert accepted(made(), still, disturbed(still, LYSO)) == ()
    assert len(accepted(made(refine=False), still, disturbed(still, LYSO, amount=1e-5))) == 1


def test_candidates_that_are_no_cells_are_refused():
    still = make_still(geometry_of(), LYSO, 1)
    for axes in (np.full((3, 3), np.nan), np.zeros((3, 3)), np.ones((3, 3)), -disturbed(still, LYSO).axes):
        for check in (True, False):
            candidate = Candidate(axes=axes, shift=np.zeros(2), score=1.0)
            assert accepted(made(check_cell=check), still, candidate) == ()


def test_a_wrong_lattice_is_refused():
    still = make_still(geometry_of(), LYSO, 1)
    for seed in range(5):
        axes = real_axes((38.0, 79.0, 79.0, 90.0, 90.0, 90.0)) @ random_turn(np.random.default_rng(seed))
        assert accepted(made(), still, Candidate(axes=axes, shift=np.zeros(2), score=50.0)) == ()


def test_several_lattices_are_taken_with_multi_only():
    still = make_still(geometry_of(), LYSO, 4, n_peak=40, n_lattice=3)
    candidates = [disturbed(still, LYSO, number) for number in range(3)]
    crystals = accepted(made(multi=True), still, *candidates)
    assert len(crystals) == 3
    for number, crystal in enumerate(crystals):
        found = np.linalg.inv(crystal.recip).T
        M = np.rint(found @ np.linalg.inv(still.axes[number]))
        assert misorientation(found, M @ still.axes[number]) < 0.1
    assert len(accepted(made(check_peaks=False), still, *candidates)) == 1


def test_the_same_lattice_twice_is_one_crystal():
    still = make_still(geometry_of(), LYSO, 4, n_peak=60)
    candidates = [candidate_of(still.axes[0], "P", seed) for seed in range(3)]
    assert len(accepted(made(multi=True, check_peaks=False, refine=False), still, *candidates)) == 1


def test_a_shift_is_reported_and_used_on_request_only():
    geometry = geometry_of(TILTED)
    for seed in range(3):
        still = make_still(geometry, LYSO, seed, shift=(2.0, -1.0))
        candidate = disturbed(still, LYSO)
        (fitted,) = accepted(made(geometry=geometry, refine_shift=True), still, candidate)
        np.testing.assert_allclose(fitted.shift, (2 * 75e-6, -75e-6), atol=2e-5)
        (plain,) = accepted(made(geometry=geometry), still, candidate)
        assert plain.shift == (0.0, 0.0)
        true = still.axes[0]
        angles = []
        for crystal in (fitted, plain):
            axes = np.linalg.inv(crystal.recip).T
            angles.append(misorientation(axes, np.rint(axes @ np.linalg.inv(true)) @ true))
        assert angles[0] < 0.06
        assert fitted.residuals["final_residual"][0] < plain.residuals["final_residual"][0]


def test_profile_radius_can_be_fixed():
    still = make_still(geometry_of(), LYSO, 1)
    (crystal,) = accepted(made(radius=3e7), still, disturbed(still, LYSO))
    assert crystal.profile_radius == pytest.approx(0.003)


def test_results_do_not_depend_on_the_basis_of_the_candidate():
    still = make_still(geometry_of(), MONO, 1)
    candidate = disturbed(still, MONO)
    other = Candidate(
        axes=np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]]) @ candidate.axes, shift=candidate.shift, score=100.0
    )
    (first,), (second,) = (accepted(made(MONO), still, c) for c in (candidate, other))
    np.testing.assert_allclose(second.recip, first.recip, rtol=1e-9, atol=1e-12)


def test_strided_and_read_only_peaks_give_the_same():
    still = make_still(geometry_of(), LYSO, 1)
    (expected,) = accepted(made(), still, disturbed(still, LYSO))
    peaks = still.peaks
    table = np.column_stack([peaks.fs, peaks.ss, peaks.intensity])
    table.flags.writeable = False
    other = PeakList(
        fs=table[:, 0], ss=table[:, 1], panel=peaks.panel.astype(np.int64), intensity=table[:, 2]
    )
    view = peaks_of(still.frame, other, 0.0)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in (view.fs, view.ss, view.panel))
    (crystal,) = accepted(made(), Still(still.frame, other, still.axes, None), disturbed(still, LYSO))
    np.testing.assert_array_equal(crystal.recip, expected.recip)


def test_peaks_that_are_no_numbers_do_no_harm():
    still = make_still(geometry_of(), LYSO, 1)
    peaks = still.peaks
    peaks.fs[3], peaks.ss[7] = np.nan, np.inf
    spoilt = Still(still.frame, peaks, still.axes, still.source)
    (crystal,) = accepted(made(), spoilt, disturbed(still, LYSO))
    assert np.isfinite(crystal.recip).all()


def test_without_a_cell_any_lattice_becomes_a_triclinic_crystal_with_primitive_axes():
    still = make_still(geometry_of(), MONO, 1)
    (crystal,) = accepted(made(None), still, disturbed(still, MONO))
    assert (crystal.lattice_type, crystal.centering, crystal.unique_axis) == ("triclinic", "P", "*")
    axes = np.linalg.inv(crystal.recip).T
    assert same_lattice(axes, primitive_axes(still.axes[0], "C"))[0]
    assert "final_residual" in crystal.residuals


def given_of(still, cell, number=0, turn=None, shift=(0.0, 0.0)):
    """The true lattice as a file would give it, a little off."""
    u, _, vt = np.linalg.svd(np.eye(3) + 5e-4 * np.cross(np.eye(3), (1.0, -1.0, 1.0)))
    axes = still.axes[number] @ (u @ vt)
    bare = replace(cell, parameters=None)
    return Solution(np.ascontiguousarray(axes if turn is None else turn @ axes), bare, shift)


@pytest.mark.parametrize("target", [MONO, None], ids=["with a target", "without"])
def test_a_given_crystal_is_refined_in_its_setting(target):
    still = make_still(geometry_of(), MONO, 1)
    other_setting = np.diag([-1.0, 1.0, -1.0])
    solution = given_of(still, MONO, turn=other_setting)
    (crystal,) = made(target).given(still.frame, still.peaks, [solution])
    found = np.linalg.inv(crystal.recip).T
    assert misorientation(found, other_setting @ still.axes[0]) < 0.03
    assert misorientation(solution.axes, other_setting @ still.axes[0]) > 0.03
    assert cell_parameters(found)[3] == pytest.approx(90, abs=1e-6)
    assert (crystal.lattice_type, crystal.centering, crystal.unique_axis) == ("monoclinic", "C", "b")
    assert crystal.score is None
    assert list(crystal.residuals) == NOTES


def test_a_given_crystal_of_another_cell_is_refused_unless_it_is_not_checked():
    still = make_still(geometry_of(), MONO, 1)
    solution = given_of(still, MONO)
    assert made(LYSO).given(still.frame, still.peaks, [solution]) == ()
    (crystal,) = made(LYSO, check_cell=False).given(still.frame, still.peaks, [solution])
    assert (crystal.lattice_type, crystal.centering) == ("monoclinic", "C")


def test_a_given_primitive_cell_is_brought_into_the_targets_setting():
    still = make_still(geometry_of(), MONO, 1)
    axes = np.ascontiguousarray(primitive_axes(still.axes[0], "C"))
    solution = Solution(axes, UnitCell(parameters=None), (0.0, 0.0))
    (crystal,) = made(MONO).given(still.frame, still.peaks, [solution])
    assert (crystal.lattice_type, crystal.centering) == ("monoclinic", "C")
    np.testing.assert_allclose(cell_parameters(np.linalg.inv(crystal.recip).T), MONO.parameters, rtol=2e-3)


def test_given_crystals_are_all_taken_but_each_once_and_if_they_explain_enough():
    still = make_still(geometry_of(), LYSO, 4, n_peak=40, n_lattice=2)
    pair = [given_of(still, LYSO, number) for number in (0, 1)]
    wrong = Solution(real_axes((79.0, 79.0, 38.0, 90.0, 90.0, 90.0)), pair[0].cell, (0.0, 0.0))
    options = {"check_peaks": False}
    assert len(made(**options).given(still.frame, still.peaks, [pair[0], *pair])) == 2
    assert len(made(retry=False).given(still.frame, still.peaks, [wrong])) == 0


def test_a_given_shift_of_the_detector_is_used_and_reported():
    geometry = geometry_of(TILTED)
    still = make_still(geometry, LYSO, 0, shift=(2.0, -1.0))
    true = (2 * 75e-6, -75e-6)
    solutions = [given_of(still, LYSO, shift=shift) for shift in (true, (0.0, 0.0))]
    (shifted,), (plain,) = (
        made(geometry=geometry).given(still.frame, still.peaks, [solution]) for solution in solutions
    )
    np.testing.assert_allclose(shifted.shift, true)
    assert shifted.residuals["final_residual"][0] < 0.5 * plain.residuals["final_residual"][0]


def test_a_given_crystal_stays_as_it_is_without_refinement():
    still = make_still(geometry_of(), LYSO, 1)
    solution = given_of(still, LYSO)
    (crystal,) = made(refine=False).given(still.frame, still.peaks, [solution])
    np.testing.assert_allclose(np.linalg.inv(crystal.recip).T, solution.axes, rtol=1e-9, atol=1e-9)


def test_crystals_have_a_record_for_alignment_on_request():
    still = make_still(geometry_of(), LYSO, 1)
    (plain,) = accepted(made(), still, disturbed(still, LYSO))
    (wanted,) = accepted(made(mille=True), still, disturbed(still, LYSO))
    assert plain.alignment == b""
    final = [one.value**2 for one in measurements(wanted.alignment)]
    assert sum(final) == pytest.approx(wanted.residuals["final_residual"][0], rel=1e-4)
    (unrefined,) = accepted(made(mille=True, refine=False), still, disturbed(still, LYSO))
    assert unrefined.alignment == b""
