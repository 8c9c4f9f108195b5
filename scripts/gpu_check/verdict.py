# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures say about the goals.  Nothing here changes the exit code."""

from typing import Any

from gpu_check.packed_rates import LEAST_FRAMES as LEAST_SERVED
from gpu_check.packed_rates import LOAD, MOST_LATE_MS, MOST_MEDIAN_MS, PACKED
from gpu_check.plan import CONTENTS, FULL, SOME, size_name
from gpu_check.report import Report
from gpu_check.trial_rates import GOAL_BATCH, GOAL_PEAKS, LEAST_FRAMES, MOST_ALONE_MS, MOST_HIT_MS
from gpuidx.backends.cuda.traffic import Work, search_traffic, total

SIDE, DTYPE, BATCH = 2048, "u2", 32
MOST_SEARCH_MS, MOST_START_S, MOST_TRAFFIC = 0.1, 5.0, 18.0
RATE_CELL = FULL.trials.rate_cell
AS_FAST = 1.05
"""The whole path counts as no slower than the upload alone up to this ratio: clocks and neighbours differ."""


def judge(report: Report) -> None:
    """A line for each goal: met, missed, or not measured."""
    report.title("goals: 4M, 16-bit pixels, batches of 32, on an H200")
    if report.pretended:
        report.line("NOT MEASURED: the device is pretended")
    lines = [
        *_rates(report.data.get("rates", [])),
        *_trials(report.data),
        *_service(report.data.get("service", [])),
        _start(report.data.get("start", {})),
    ]
    lines.append(_traffic())
    for what, value, goal, met in lines:
        computed = what.startswith("computed")
        word = (
            "not measured"
            if met is None or (report.pretended and not computed)
            else "met"
            if met
            else "MISSED"
        )
        shown = "-" if value is None or (report.pretended and not computed) else f"{value:.4g}"
        report.line(f"{what}: {shown} (goal {goal}): {word}")
        report.data.setdefault("goals", []).append(
            {"what": what, "value": value, "goal": goal, "verdict": word}
        )


Line = tuple[str, float | None, str, bool | None]


def _rates(results: list[dict[str, Any]]) -> list[Line]:
    lines: list[Line] = []
    for content in CONTENTS:
        wanted = {"side": SIDE, "dtype": DTYPE, "content": content, "n_frame": BATCH}
        one = next((r for r in results if wanted.items() <= r["case"].items()), None)
        search = one["search"]["ms"] / BATCH if one else None
        upload = one["upload"]["ms"] / BATCH if one else None
        ratio = one["path"]["ms_a_frame"] / upload if one and upload else None
        goal = search is not None and search <= MOST_SEARCH_MS
        lines += [
            (f"peak search from device memory, {content}, ms a frame", search, f"{MOST_SEARCH_MS}",
             goal if one else None),
            (f"whole path over upload alone, {content}, ratio", ratio, f"1, up to {AS_FAST} counts as 1",
             None if ratio is None else ratio <= AS_FAST),
        ]  # fmt: skip
    return lines


def _trials(data: dict[str, Any]) -> list[Line]:
    """Of the indexing trials: both goals on lists of so many peaks, and that of the whole path."""
    lists = {
        one["n_list"]: one
        for one in data.get("trial_rates", [])
        if one["kind"] == "hits" and one["n_peak"] == GOAL_PEAKS and one["cell"] == RATE_CELL
    }
    hit, alone = lists.get(GOAL_BATCH, {}).get("ms_a_list"), lists.get(1, {}).get("wall_ms_a_list")
    wanted = {"side": SIDE, "dtype": DTYPE, "content": SOME}
    rates = [r["frames_per_s"] for r in data.get("trial_paths", []) if wanted.items() <= r["case"].items()]
    best = max(rates, default=None)
    what = f"indexing trials, {GOAL_PEAKS} peaks"
    return [
        (f"{what}, batches of {GOAL_BATCH}, ms a hit", hit, f"{MOST_HIT_MS}",
         None if hit is None else hit <= MOST_HIT_MS),
        (f"{what}, one frame alone, ms", alone, f"{MOST_ALONE_MS}",
         None if alone is None else alone <= MOST_ALONE_MS),
        (f"host memory to candidate lattices, {SOME}, best batch, frames/s", best, f"{LEAST_FRAMES:.0f}",
         None if best is None else best >= LEAST_FRAMES),
    ]  # fmt: skip


def _service(results: list[dict[str, Any]]) -> list[Line]:
    """Of compressed frames from slots to what is found: rates, and latency at a part of these."""
    lines: list[Line] = []
    for side, least in LEAST_SERVED.items():
        wanted = {"side": side, "content": SOME, "dtype": DTYPE}
        one = next((r for r in results if r["way"] == PACKED and wanted.items() <= r["case"].items()), None)
        what = f"compressed slots to candidate lattices, {size_name(side)}, {SOME}"
        late = f"latency at {100 * LOAD:.0f} % of that, {size_name(side)}"
        for name, key, goal, is_most in (
            (f"{what}, frames/s", "frames_per_s", least, False),
            (f"{late}, median, ms", "median_ms", MOST_MEDIAN_MS, True),
            (f"{late}, 99 %, ms", "late_ms", MOST_LATE_MS, True),
        ):
            value = one[key] if one else None
            met = None if value is None else value <= goal if is_most else value >= goal
            lines.append((name, value, f"{goal:.0f}", met))
    return lines


def _start(results: dict[str, dict[str, Any]]) -> Line:
    seconds = results.get("filled cache of kernels", {}).get("to_first_result_s")
    return (
        "first result of a warm start, s",
        seconds,
        f"{MOST_START_S}",
        None if seconds is None else seconds <= MOST_START_S,
    )


def _traffic() -> Line:
    work = Work.square(SIDE, 2, BATCH, n_candidate=1000, n_peak=100)
    value = total(search_traffic(work)).moved / (work.n_frame * work.n_pixel)
    return "computed traffic of device memory, bytes a pixel", value, f"{MOST_TRAFFIC}", value <= MOST_TRAFFIC
