# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures say about the goals.  Nothing here changes the exit code."""

from typing import Any

from gpu_check.plan import CONTENTS
from gpu_check.report import Report
from gpuidx.backends.cuda.traffic import Work, search_traffic, total

SIDE, DTYPE, BATCH = 2048, "u2", 32
MOST_SEARCH_MS, MOST_START_S, MOST_TRAFFIC = 0.1, 5.0, 18.0
AS_FAST = 1.05
"""The whole path counts as no slower than the upload alone up to this ratio: clocks and neighbours differ."""


def judge(report: Report) -> None:
    """A line for each goal: met, missed, or not measured."""
    report.title("goals: 4M, 16-bit pixels, batches of 32, on an H200")
    if report.pretended:
        report.line("NOT MEASURED: the device is pretended")
    lines = [*_rates(report.data.get("rates", [])), _start(report.data.get("start", {})), _traffic()]
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
