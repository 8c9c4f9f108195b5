# SPDX-License-Identifier: GPL-3.0-or-later
"""First half of indexing attempts on a device: each stage gives what the CPU's function of it gives."""

import itertools

import emulator
import numpy as np
import pytest
from backends import trial_stages
from backends.peak_lists import a_few_of_each, read_benchmark, simulated
from backends.trial_stages import Stages, cpu_vectors, search, tables
from backends.ways import fresh_device
from thorough import sample

from gpuidx.backends.constants import (
    ATTEMPTS,
    DIRECT,
    DIRECTION_STRETCH,
    FEWEST_PEAKS,
    LONGEST_PEAK,
    MAX_PEAKS,
    N_SAMPLED,
    SCAN_CYCLES,
    STEP,
)
from gpuidx.backends.cpu.scan import best_places, find_directions, refine_directions, scan_scores
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.cuda import trial_tables

emulator.need("g++", "cupy")

CELLS = ("lyso", "p1", "long")
SCORE_ERROR = 1e-3
"""Of sums of up to 256 scores in float32, in another order of operations."""


@pytest.fixture(autouse=True)
def device():
    with fresh_device() as device:
        yield device


def lists_of(cell_name: str) -> list[np.ndarray]:
    """Peaks of one frame with spurious peaks, one with few peaks, and one with many."""
    settings = ({"n_peaks": 60, "spurious": 0.5}, {"n_peaks": 15}, {"n_peaks": 110, "noise": 0.5})
    return [simulated(cell_name, seed, **given).q for seed, given in enumerate(settings)]


def random_list(n: int, seed: int = 0) -> np.ndarray:
    """Scattering vectors on the Ewald sphere, up to 0.7 Å⁻¹."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.45, 0.45, (2, n))
    return np.stack([x, y, np.sqrt(1 - x * x - y * y) - 1], axis=1)


def lattice_list(spacing: float = 0.02) -> np.ndarray:
    """A plane of a lattice: many pairs are equal, and many others of equal length."""
    return np.array([(h * spacing, k * spacing, 0.01) for h in range(-5, 6) for k in range(-5, 6)])


# ---- which frames are tried


def test_slots_are_the_frames_that_have_an_attempt_left_in_order() -> None:
    stages = Stages("lyso", [np.zeros((0, 3))] * 3)
    n = 700  # more than a block has threads
    numbers = np.random.default_rng(1).integers(-2, 4, n).astype(np.int32)
    stages.set(next_attempt=numbers, tasks=np.zeros((n, 4), np.int32))
    stages.launch(search().vectors, "list_tasks", (1,), n_frame=n)
    expected = np.flatnonzero(numbers >= 0)
    tasks = stages.get("tasks")[: len(expected)]
    assert stages.get("n_task").tolist() == [len(expected)]
    np.testing.assert_array_equal(tasks["frame"], expected)
    np.testing.assert_array_equal(tasks["number"], numbers[expected])
    assert [(task["anchor"], task["kind"]) for task in tasks] == [ATTEMPTS[i] for i in numbers[expected]]


def test_frames_without_an_attempt_are_left_alone() -> None:
    lists = lists_of("lyso")
    stages = Stages("lyso", lists)
    found = stages.run([-1, 0, -1])
    assert found["n_task"].tolist() == [1]
    assert found["tasks"]["frame"][0] == 1
    assert found["n_peak"][1] == len(lists[1])


# ---- usable peaks


def peaks_on_device(q: np.ndarray, **buffers: np.ndarray) -> np.ndarray:
    """Usable peaks (peak, xyz and length) of one list."""
    stages = Stages("lyso", [q])
    stages.set(**buffers)
    found = stages.run(0)
    peaks = found["peaks"][0, : found["n_peak"][0]]
    assert found["farthest"][0] == (peaks[-1, 3] if len(peaks) else 0)
    return peaks


def expected_peaks(q: np.ndarray) -> np.ndarray:
    peaks, length = usable_peaks(np.ascontiguousarray(q))
    return np.column_stack([peaks[:3].T, length]).astype(np.float32)


def test_usable_peaks_are_those_of_the_cpu_in_its_order() -> None:
    q = random_list(100)
    q[[3, 40, 41, 77, 78]] = [np.nan, 0, 0], [0, 0, 0], [0, np.inf, 0], [1e300, 0, 0], [0, 0, LONGEST_PEAK]
    q[10] = q[11] = q[12]
    q[20:28] = list(itertools.product([-0.1, 0.1], repeat=3))
    np.testing.assert_array_equal(peaks_on_device(q), expected_peaks(q))
    assert len(expected_peaks(q)) == 95


@pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 1000, MAX_PEAKS])
def test_any_number_of_peaks_is_sorted(n) -> None:
    q = np.round(random_list(n), 4)  # some of the same length
    found, expected = peaks_on_device(q), expected_peaks(q)
    assert (np.diff(found[:, 3]) >= 0).all()
    np.testing.assert_allclose(found[:, 3], expected[:, 3], rtol=1e-6)
    np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))


def test_only_the_first_peaks_that_are_not_excluded_are_used() -> None:
    q = random_list(50)
    excluded = np.zeros((1, MAX_PEAKS), np.uint8)
    excluded[0, [2, 3, 35]] = 1
    found = peaks_on_device(q, n_used=np.array([30], np.int32), excluded=excluded)
    np.testing.assert_array_equal(found, expected_peaks(np.delete(q[:30], [2, 3], axis=0)))


def test_minus_zero_is_zero() -> None:
    q = np.array([[0.0, 0.1, -0.0], [-0.0, 0.1, 0.0]])
    found = peaks_on_device(q)
    assert found[0].tobytes() == found[1].tobytes()


# ---- vectors


def assert_vectors(stages: Stages, slot: int, cell_name: str, q: np.ndarray, attempt: int) -> None:
    for_scan, scan_level, for_turn, turn_level = cpu_vectors(cell_name, q, attempt)
    found, sets = stages.found, stages.found["sets"][slot]
    assert sets.tolist() == (for_scan.shape[1], for_turn.shape[1], scan_level, turn_level)
    for name, expected in (("scan_vectors", for_scan), ("turn_vectors", for_turn)):
        vectors = found[name][slot, : expected.shape[1]]
        lengths = [np.linalg.norm(rows[:, :3], axis=1) for rows in (vectors, expected.T)]
        np.testing.assert_allclose(*lengths, rtol=1e-5)
        # those whose lengths differ by less than a float32 tells may change places
        apart = np.abs(vectors[:, None] - expected.T[None]).max(axis=2)
        assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 1e-7


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("cell_name", CELLS)
def test_vectors_and_levels_are_those_of_the_cpu(cell_name, attempt) -> None:
    lists = lists_of(cell_name)
    stages = Stages(cell_name, lists)
    stages.run(attempt)
    for slot, q in enumerate(lists):
        assert_vectors(stages, slot, cell_name, q, attempt)


@pytest.mark.parametrize("attempt", [0, 1])
def test_peaks_that_say_nothing_of_the_anchor_are_left_out_of_the_scan(attempt) -> None:
    q = random_list(150) * 0.1
    stages = Stages("lyso", [q])
    found = stages.run(attempt)
    assert_vectors(stages, 0, "lyso", q, attempt)
    assert np.linalg.norm(found["turn_vectors"][0, 0, :3]) < tables("lyso").scan_shortest[0]


@pytest.mark.parametrize("n", [191, 193, 600, MAX_PEAKS])
def test_pairs_of_many_peaks_are_the_shortest_of_all(n) -> None:
    q = random_list(n, seed=n)
    stages = Stages("lyso", [q])
    stages.run(1)
    assert_vectors(stages, 0, "lyso", q, 1)


@pytest.mark.parametrize("spacing", [0.005, 0.02])
def test_pairs_of_equal_length_are_as_many_as_on_the_cpu(spacing) -> None:
    q = lattice_list(spacing)
    found = Stages("long", [q]).run(1)
    for_scan, _, for_turn, _ = cpu_vectors("long", q, 1)
    for name, expected in (("scan_vectors", for_scan), ("turn_vectors", for_turn)):
        n = found["sets"]["n_scan" if name == "scan_vectors" else "n_turn"][0]
        # which of the last ones are taken, and how many of those at a limit, is rounding
        length = np.linalg.norm(found[name][0, :n, :3], axis=1)
        np.testing.assert_allclose(length, np.linalg.norm(expected[:3], axis=0)[:n], rtol=1e-5)
        assert n == expected.shape[1]


@pytest.mark.parametrize("attempt", [0, 1])
@pytest.mark.parametrize(
    "q",
    [
        np.zeros((0, 3)),
        random_list(1),
        random_list(FEWEST_PEAKS - 1),
        np.full((20, 3), np.nan),
        np.zeros((9, 3)),
    ],
    ids=["none", "one", "too few", "not numbers", "zero"],
)
def test_too_few_peaks_give_no_vectors_and_no_directions(q, attempt) -> None:
    found = Stages("lyso", [q]).run(attempt)
    assert found["sets"][0].tolist()[:2] == (0, 0)
    assert found["n_direction"].tolist() == [0]


@pytest.mark.parametrize("attempt", [0, 1])
def test_equal_peaks_do_no_harm(attempt) -> None:
    q = np.tile([[0.03, 0.04, 0.001]], (40, 1))
    found = Stages("lyso", [q]).run(attempt)
    for_scan, _, for_turn, _ = cpu_vectors("lyso", q, attempt)
    assert found["sets"][0].tolist()[:2] == (for_scan.shape[1], for_turn.shape[1])
    assert np.isfinite(found["directions"][0, : found["n_direction"][0]]).all()


# ---- directions


@pytest.fixture(scope="module")
def scanned():
    """Attempts with direct vectors and with pairs: cell, lists, attempt, what was found."""
    rows = []
    for cell_name, attempt in (("lyso", 0), ("p1", 1), ("long", 0)):
        lists = lists_of(cell_name)
        rows.append((cell_name, attempt, Stages(cell_name, lists).run(attempt)))
    return rows


def slots_of(scanned):
    """For each slot: cell, anchor, buffers, number, first direction and end of the level."""
    for cell_name, attempt, found in scanned:
        for slot, sets in enumerate(found["sets"]):
            begin, end = tables(cell_name).grid_start[sets["scan_level"] :][:2]
            yield tables(cell_name), ATTEMPTS[attempt][0], found, slot, begin, end


def vectors_of(cell, anchor: int, found, slot: int) -> np.ndarray:
    """(xyzw, vector) in units of the anchor's length, float64."""
    vectors = found["scan_vectors"][slot, : found["sets"]["n_scan"][slot]].T.astype(float)
    vectors[:3] *= cell.local[anchor, 0, 2]
    return np.ascontiguousarray(vectors)


def test_scores_of_directions_are_those_of_the_cpu(scanned) -> None:
    for cell, anchor, found, slot, begin, end in slots_of(scanned):
        expected = np.empty(end - begin, np.float32)
        vectors = vectors_of(cell, anchor, found, slot)
        scan_scores(vectors.astype(np.float32), cell.grid, begin, expected)
        np.testing.assert_allclose(found["scores"][slot, : end - begin], expected, atol=SCORE_ERROR)


def test_the_best_directions_are_taken(scanned) -> None:
    for *_, found, slot, begin, end in slots_of(scanned):
        expected = best_places(found["scores"][slot, : end - begin], N_SAMPLED)
        n = found["n_sampled"][slot]
        np.testing.assert_array_equal(found["sampled"][slot, :n], expected)


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros(40212),
        np.ones(40212),
        (np.arange(40212) % 5 == 2) * 1.0,
        np.arange(40212) // 61,
        np.arange(40212)[::-1] // 61,
        (np.arange(40212) > 40200) * 1e-30,
        np.random.default_rng(0).integers(0, 900, 40212) / 7,
        (np.arange(40212, dtype=np.int32) + np.float32(32).view(np.int32)).view(np.float32),
    ],
    ids=["zero", "equal", "some equal", "rising", "falling", "few", "random", "rising by one bit"],
)
def test_equal_scores_are_taken_in_the_order_of_the_grid(scores) -> None:
    stages = Stages("long", [lists_of("long")[0]])
    assert stages.run(0)["scores"].shape == (1, len(scores))
    finest = np.array([[60, 60, len(SCAN_CYCLES) - 1, 0]], np.int32)
    stages.set(scores=scores.astype(np.float32)[None], sets=finest)
    stages.launch(search().directions, "select_directions", (1,), most_directions=len(scores))
    expected = best_places(scores.astype(np.float32), N_SAMPLED)
    assert stages.get("n_sampled").tolist() == [len(expected)]
    np.testing.assert_array_equal(stages.get("sampled")[0, : len(expected)], expected)


def test_refined_directions_are_those_of_the_cpu(scanned) -> None:
    for cell, anchor, found, slot, begin, _ in slots_of(scanned):
        cycles = SCAN_CYCLES[found["sets"]["scan_level"][slot]]
        sampled = found["sampled"][slot, : found["n_sampled"][slot]]
        t = cell.grid[:, begin + sampled].astype(float)
        expected = refine_directions(vectors_of(cell, anchor, found, slot), t, STEP / cycles)
        kept = found["directions"][slot, : found["n_direction"][slot]]
        assert len(kept) == len(expected)
        refined = found["refined"][slot, : len(sampled)]
        good = refined[:, 3] >= 0
        # one in a hundred may end elsewhere: a vector is in or out by rounding
        assert (np.abs(refined[good, :3] - t.T[good]).max(axis=1) < 1e-4).mean() > 0.98
        assert (np.abs(kept[:, :3] - expected).max(axis=1) < 1e-4).mean() > 0.9
        assert (np.diff(kept[:, 3]) <= 0).all()
        assert np.abs(np.linalg.norm(kept[:, :3], axis=1) - 1).max() <= 0.0601


def test_directions_in_which_the_cell_does_not_fit_are_lost() -> None:
    q = np.random.default_rng(0).uniform(-0.08, 0.08, (190, 3))
    q[:, 0] = np.repeat([2, 3], 95) / (1.085 * 60)  # planes that lie too close for the cell
    found = Stages("p1", [q]).run(0)
    for_scan, level, _, _ = cpu_vectors("p1", q, 0)
    cell = tables("p1")
    t = cell.grid[:, cell.grid_start[level] + found["sampled"][0]].astype(float)
    for_scan[:3] *= cell.local[0, 0, 2]
    refine_directions(for_scan, t, STEP / SCAN_CYCLES[level])
    stretch = np.abs(np.linalg.norm(t, axis=0) - 1)
    sure = np.abs(stretch - DIRECTION_STRETCH) > 1e-3
    lost = found["refined"][0, :, 3] == -1
    np.testing.assert_array_equal(lost[sure], stretch[sure] > DIRECTION_STRETCH)
    assert 0 < lost.sum() < N_SAMPLED


def share_found(cell_name: str, lists: list[np.ndarray], attempt: int) -> tuple[int, int]:
    """How many of the CPU's directions the device has found, to 1e-4 of the length; how many there are."""
    cell, anchor = tables(cell_name), ATTEMPTS[attempt][0]
    found = Stages(cell_name, lists).run(attempt)
    n_found = n_expected = 0
    for slot, q in enumerate(lists):
        for_scan, level, _, _ = cpu_vectors(cell_name, q, attempt)
        length, begin, end = cell.local[anchor, 0, 2], *cell.grid_start[level : level + 2]
        scores = np.empty(end - begin, np.float32)
        expected = find_directions(for_scan, length, cell.grid, begin, float(SCAN_CYCLES[level]), scores)
        kept = found["directions"][slot, : found["n_direction"][slot], :3] * length
        apart = np.linalg.norm(kept[:, None] - expected[None], axis=2).min(axis=0, initial=np.inf)
        n_found += int((apart < 1e-4 * length).sum())
        n_expected += len(expected)
    return n_found, n_expected


@pytest.mark.parametrize("attempt", [0, 1])
def test_directions_from_peaks_are_those_of_the_cpu(attempt) -> None:
    n_found, n_expected = np.sum([share_found(name, lists_of(name), attempt) for name in CELLS], axis=0)
    assert n_expected > 100
    assert n_found >= 0.98 * n_expected


@pytest.mark.data
@pytest.mark.parametrize("attempt", sample([0, 1], 2))
def test_directions_of_the_benchmark_are_those_of_the_cpu(data_folder, attempt) -> None:
    lists: dict[str, list[np.ndarray]] = {}
    for one in a_few_of_each(read_benchmark(data_folder), 1):
        lists.setdefault(one.cell_name, []).append(one.q)
    shares = {name: share_found(name, own, attempt) for name, own in lists.items()}
    n_found, n_expected = np.sum(list(shares.values()), axis=0)
    assert n_expected > 1500
    assert n_found >= 0.99 * n_expected, shares


def test_a_true_axis_is_among_the_directions() -> None:
    for cell_name in CELLS:
        true = simulated(cell_name, 5)
        found = Stages(cell_name, [true.q]).run(0)
        kept = found["directions"][0, : found["n_direction"][0], :3]
        axis = (trial_stages.trials(cell_name).cell.U @ true.truth[0])[0]
        across = np.linalg.norm(np.cross(kept, axis / np.linalg.norm(axis)), axis=1)
        assert across.min() < 0.003


# ---- the same whatever is around


@pytest.mark.parametrize("attempt", range(4))
def test_a_frame_has_the_same_bits_alone_and_in_a_batch(attempt) -> None:
    lists = [*lists_of("p1"), np.zeros((0, 3)), random_list(300)]
    together = Stages("p1", lists)
    together.run(attempt)
    for slot, q in enumerate(lists):
        alone = Stages("p1", [q])
        alone.run(attempt)
        assert alone.outcome(0) == together.outcome(slot)


def test_frames_of_a_batch_may_be_at_different_attempts() -> None:
    lists = lists_of("p1")
    mixed = Stages("p1", lists)
    mixed.run([1, -1, 2])
    for slot, (frame, attempt) in enumerate([(0, 1), (2, 2)]):
        alone = Stages("p1", [lists[frame]])
        alone.run(attempt)
        assert alone.outcome(0) == mixed.outcome(slot)


@pytest.mark.parametrize("attempt", [0, 1])
def test_the_order_of_the_peaks_does_not_matter(attempt) -> None:
    rng = np.random.default_rng(4)
    for q in (lists_of("lyso")[0], lattice_list()):
        stages = Stages("lyso", [q, rng.permutation(q), q[::-1]])
        stages.run(attempt)
        assert stages.outcome(0) == stages.outcome(1) == stages.outcome(2)


@pytest.mark.parametrize("attempt", [0, 1])
def test_threads_in_any_order_give_the_same_bits_and_no_fault(device, attempt) -> None:
    lists = [lists_of("lyso")[0][:40], lattice_list()[:30]]
    plain = Stages("lyso", lists)
    plain.run(attempt)
    expected = [plain.outcome(slot) for slot in range(2)]
    for schedule in (0, 1, 5):
        device.set(check=True, schedule=schedule)
        checked = Stages("lyso", lists)
        checked.run(attempt, fetch=False)
        assert [checked.outcome(slot) for slot in range(2)] == expected
        assert device.messages == []


# ---- tables


def test_the_tables_are_those_of_the_cpu() -> None:
    cell = tables("p1")
    host = trial_tables.make_trial_tables(cell)
    np.testing.assert_array_equal(host.grid[:, :3].T, cell.grid)
    np.testing.assert_array_equal(host.angles.T, [cell.cosine, cell.sine])
    for name in ("local", "metric_inverse", "scan_limit", "turn_limit", "scan_shortest"):
        np.testing.assert_allclose(host.anchors[name], getattr(cell, name), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(host.anchors["turn_steps"], cell.turn_steps)
    np.testing.assert_array_equal(host.anchors["polar"], cell.polar)
    np.testing.assert_allclose(host.anchors["length"], [60, 70, 80], rtol=1e-6)


def test_every_number_of_the_constants_goes_to_the_kernels() -> None:
    given = trial_tables.defines()
    assert given["SCAN_CURVATURE"] == "16.0f"
    assert (given["SCAN_NEED_0"], given["SCAN_NEED_1"]) == (64, 160)
    assert given["CELL_TOLERANCE_2"] == trial_tables.c_float(0.2)
    assert not any("ATTEMPTS" in name for name in given)


def test_a_plan_says_where_trials_begin() -> None:
    plan = trial_tables.make_plan(ATTEMPTS, [(1, DIRECT)])
    assert plan["begins"].tolist() == [1, 0, 0, 0, 1]
    assert [(a, k) for a, k, _ in plan.tolist()] == [*ATTEMPTS, (1, DIRECT)]
