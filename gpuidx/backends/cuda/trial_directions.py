# SPDX-License-Identifier: GPL-3.0-or-later
"""First half of an attempt on a device: from peaks to the directions in which the anchor may lie.

Which kernel runs on what, in order; see ``kernels/indexing_vectors.cu`` and
``kernels/indexing_directions.cu``.  Nothing here waits for the device.
"""

from collections.abc import Mapping
from typing import Any

from gpuidx.backends.constants import N_SAMPLED
from gpuidx.backends.cuda.kernels import Kernels
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

    def start(self, stream: Any, arrays: Mapping[str, Any], n_frame: int) -> None:
        """Start the next attempt of every frame that has one.

        Parameters
        ----------
        stream
            That the kernels run on.
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
        launch_named(vectors, "list_tasks", (1,), stream, arrays, n_frame=n_frame)
        launch_named(vectors, "take_peaks", (n_frame,), stream, arrays)
        launch_named(vectors, "select_vectors", (n_frame,), stream, arrays)
        scan, select = "scan_directions", "select_directions"
        launch_named(directions, scan, (tiles, n_frame), stream, arrays, most_directions=most)
        launch_named(directions, select, (n_frame,), stream, arrays, most_directions=most)
        launch_named(directions, "refine_directions", (N_SAMPLED // warps, n_frame), stream, arrays)
        launch_named(directions, "keep_directions", (n_frame,), stream, arrays)


def launch_named(
    kernels: Kernels,
    name: str,
    grid: tuple[int, ...],
    stream: Any,
    arrays: Mapping[str, Any],
    /,
    **numbers: float,
) -> None:
    """Start a kernel on those of *arrays* and *numbers* that have the names of its parameters."""
    given = {**arrays, **numbers}
    kernels.launch(name, grid, stream, **{p: given[p] for p in kernels.parameters(name)})
