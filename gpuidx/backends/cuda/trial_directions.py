# SPDX-License-Identifier: GPL-3.0-or-later
"""First half of an attempt on a device: from peaks to the directions in which the anchor may lie.

Which kernel runs on what, in order; see ``kernels/indexing_vectors.cu`` and
``kernels/indexing_directions.cu``.  Nothing here waits for the device.
"""

from collections.abc import Mapping
from typing import Any

from gpuidx.backends.constants import N_SAMPLED
from gpuidx.backends.cuda.kernels import Kernels, Launch
from gpuidx.backends.cuda.trial_tables import defines

VECTORS_FILE, DIRECTIONS_FILE = "indexing_vectors.cu", "indexing_directions.cu"


class DirectionSearch:
    """Kernels of the first half of an attempt, compiled for the current device.

    Attributes
    ----------
    vectors, directions
        The kernels of the two files.
    """

    def __init__(self) -> None:
        self.vectors = Kernels(VECTORS_FILE, None, defines())
        self.directions = Kernels(DIRECTIONS_FILE, None, defines())

    def compile(self) -> None:
        """Compile and load now, not at the first launch."""
        self.vectors.compile()
        self.directions.compile()

    def launches(self, arrays: Mapping[str, Any], n_frame: int) -> list[Launch]:
        """What makes the first half of the next attempt of every frame that has one, in order.

        Parameters
        ----------
        arrays
            On the device, by name: ``q`` (frame, MAX_PEAKS, xyz) float64, ``plan`` as bytes, those of
            `trial_tables.TrialTables.arrays`, `trial_tables.frame_shapes` and `trial_tables.slot_shapes`.
        n_frame
            Of the batch: the first of the buffers' frames.
        """
        most = arrays["scores"].shape[1]
        vectors, directions = self.vectors, self.directions
        tiles = -(-most // directions.numbers["TILE"])
        warps = directions.threads("refine_directions") // 32
        scan, select = "scan_directions", "select_directions"
        return [
            prepare_named(vectors, "list_tasks", (1,), arrays, n_frame=n_frame),
            prepare_named(vectors, "take_peaks", (n_frame,), arrays),
            prepare_named(vectors, "select_vectors", (n_frame,), arrays),
            prepare_named(directions, scan, (tiles, n_frame), arrays, most_directions=most),
            prepare_named(directions, select, (n_frame,), arrays, most_directions=most),
            prepare_named(directions, "refine_directions", (N_SAMPLED // warps, n_frame), arrays),
            prepare_named(directions, "keep_directions", (n_frame,), arrays),
        ]

    def start(self, stream: Any, arrays: Mapping[str, Any], n_frame: int) -> None:
        """Start these; see `launches`."""
        for launch in self.launches(arrays, n_frame):
            launch.start(stream)


def prepare_named(
    kernels: Kernels, name: str, grid: tuple[int, ...], arrays: Mapping[str, Any], /, **numbers: float
) -> Launch:
    """A launch of a kernel on those of *arrays* and *numbers* that have the names of its parameters."""
    given = {**arrays, **numbers}
    return kernels.prepare(name, grid, **{p: given[p] for p in kernels.parameters(name)})
