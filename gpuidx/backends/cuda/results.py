# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device found in a frame, from the host's side of a batch's buffers."""

from typing import Any

import numpy as np

from gpuidx.backends.cuda.batch import CudaBatch
from gpuidx.backends.cuda.buffers import FIRST_PEAKS, BatchBuffers
from gpuidx.backends.peak_table import peak_list
from gpuidx.model import Found, PeakList

_NONE = PeakList(fs=np.empty(0), ss=np.empty(0), panel=np.empty(0, np.int32), intensity=np.empty(0))


def result(batch: CudaBatch, number: int, most_candidates: int, stream: Any) -> Found | None:
    """What was found in a frame for which nothing is left to do (`CudaBatch.is_ready`).

    None if it is the CPU's: left to it from the beginning, with more of something than there is room for, or
    compressed and damaged.

    Parameters
    ----------
    batch, number
        The frame.
    most_candidates
        Candidate pixels of a frame that there is room for.
    stream
        To fetch those peaks on that have not been copied yet; then this waits for them.
    """
    frame, row, buffers = batch.frames[number], batch.rows.get(number), batch.buffers
    if number in batch.left:
        return None
    if row is None or buffers is None or batch.fetched is None:
        return Found(peaks=frame.peaks if frame.peaks is not None else _NONE, candidates=None, n_tries=0)
    n_candidate, overflow, _, damaged = buffers.counts[:, row]
    if n_candidate > most_candidates or overflow or damaged:
        return None
    outcome = (batch.trials.outcomes[row] if batch.trials is not None else None) or (None, 0)
    candidates, n_tries, *axes = outcome
    peaks = _peaks(buffers, row, stream)
    return Found(peaks=peaks, candidates=candidates, n_tries=n_tries, axes=axes[0] if axes else None)


def _peaks(buffers: BatchBuffers, row: int, stream: Any) -> PeakList:
    n_peak = int(buffers.counts[2, row])
    rows = buffers.first[row, :n_peak]
    if n_peak > FIRST_PEAKS:
        rows = buffers.further_peaks(row, n_peak, stream)
    return peak_list(rows["fs"], rows["ss"], rows["panel"], rows["intensity"])
