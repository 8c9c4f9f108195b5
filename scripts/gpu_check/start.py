# SPDX-License-Identifier: GPL-3.0-or-later
"""Start-up to the first result and latency of single frames, each in a process of its own.

As a program: ``python -m gpu_check.start STARTED IMAGES SIDE N_LATENCY DEVICE TYPES``; prints times as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_check.plan import Plan
from gpu_check.report import Report

BATCH, RING_FRAMES = 32, 64
LIMIT = 150.0


def measure_all(report: Report, plan: Plan, device: int) -> None:
    """Start with an empty cache of kernels, and again with a filled one, there with latency."""
    import numpy as np

    from gpu_check.frames import Images

    report.title("start-up and latency")
    with tempfile.TemporaryDirectory() as name:
        made = Images(plan.main_side)
        images = Path(name) / "images.npy"
        np.save(images, np.stack([made.blanks[0], made.hits[0]]).astype(np.uint16))
        results = report.data["start"] = {}
        cold, kept = str(Path(name) / "cache"), "cache of kernels"
        for what, n_frame in ((f"empty {kept}", 0), (f"filled {kept}", plan.latency_frames)):
            words = [str(images), str(plan.main_side), str(n_frame), str(device), plan.start_types]
            results[what] = _child(words, os.environ | {"CUPY_CACHE_DIR": cold}, min(LIMIT, report.left - 10))
            report.line(f"{what}: {_in_words(results[what])}")


def _child(words: list[str], environment: dict[str, str], seconds: float) -> dict[str, float | str]:
    command = [sys.executable, "-m", "gpu_check.start", repr(time.time()), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=max(seconds, 1), check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not within {seconds:.0f} s"}
    if done.returncode:
        return {"error": done.stderr.strip()[-300:]}
    return json.loads(done.stdout.splitlines()[-1])


def _in_words(times: dict[str, float | str]) -> str:
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
                     for name, value in times.items())  # fmt: skip


def main() -> None:
    """What a child does."""
    started, images, side, n_latency, device, types = sys.argv[1:]
    import numpy as np

    from gpu_check.frames import Scene, backend_options
    from gpuidx.backends.cuda.backend import CudaBackend
    from gpuidx.backends.cuda.pixels import TYPES

    imported = time.time()
    shown = np.load(images)
    ring = np.zeros((RING_FRAMES, *shown.shape[1:]), shown.dtype)
    ring[: len(shown)] = shown
    made = Scene(int(side))
    frames = [made.frame(ring[k]) for k in range(len(shown))]
    backend = CudaBackend(
        made.geometry, backend_options(BATCH), made.masks, None,
        device=int(device), ring=memoryview(ring).cast("B"),
        compile_for=TYPES if types == "all" else (types,),
    )  # fmt: skip
    ready = time.time()
    backend_first = _once(backend, frames[:1])
    first = time.time()
    times = {
        "imports_s": imported - float(started), "backend_s": ready - imported, "first_frame_s": backend_first,
        "to_first_result_s": first - float(started),
    }  # fmt: skip
    if int(n_latency):
        for name, frame in (("blank", frames[0]), ("hit", frames[1])):
            _once(backend, [frame])
            each = np.array([_once(backend, [frame]) for _ in range(int(n_latency))])
            times[f"{name}_median_ms"] = float(1e3 * np.median(each))
            times[f"{name}_99_percent_ms"] = float(1e3 * np.percentile(each, 99))
    for note in backend.notes:
        times["note"] = note
    backend.close()
    print(json.dumps(times))


def _once(backend: object, frames: list) -> float:
    """Seconds from handing frames over to their peaks."""
    begun = time.perf_counter()
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    backend.results(batch)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
