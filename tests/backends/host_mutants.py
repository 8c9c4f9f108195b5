# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate defects of the code about the kernels, and what must catch each.

A mutant is a function that is compiled again from its source, with one text in place of another.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.kernel_mutants import changed

from gpuidx.backends.cuda import backend, kernels, peakfinder8


@dataclass(frozen=True)
class HostMutant:
    """A defect of a function.

    Attributes
    ----------
    says
        What is wrong.
    owner, name
        The class or module in which the function is looked up, and its name there.
    old, new
        Texts; *old* stands in the function once.
    caught_by
        What the proof must find, see `backends.cuda_proof.findings`; with "or" between them
        alternatives, where it depends on what memory held before.
    """

    says: str
    owner: Any
    name: str
    old: str
    new: str
    caught_by: str


HOST_MUTANTS = (
    HostMutant(
        "kernels do not wait for the upload",
        backend.CudaBackend, "find_peaks",
        "self._work.wait_event(batch.uploaded)", "pass",
        "peaks",
    ),
    HostMutant(
        "copying back does not wait for the kernels",
        backend.CudaBackend, "find_peaks",
        "self._down.wait_event(self._work.record())", "pass",
        "peaks",
    ),
    HostMutant(
        "the event is recorded on the wrong stream",
        backend.CudaBackend, "find_peaks",
        "self._work.record()", "self._up.record()",
        "peaks",
    ),
    HostMutant(
        "results are given before they are copied",
        backend.CudaBackend, "finished",
        "not has_happened(batch.fetched)", "False",
        "peaks or caps",
    ),
    HostMutant(
        "frames are uploaded on a stream that nothing waits for",
        backend.CudaBackend, "upload",
        "tables[key], self._up)", "tables[key], self._more)",
        "peaks",
    ),
    HostMutant(
        "a batch's buffers are free before it is fetched",
        backend.CudaBackend, "find_peaks",
        "batch.fetched = self._down.record()",
        "batch.fetched = self._down.record(); self._free.append(batch.buffers)",
        "vectors",
    ),
    HostMutant(
        "two batches have the same buffers",
        backend.CudaBackend, "upload",
        "self._free.pop()", "self._free[-1]",
        "vectors",
    ),
    HostMutant(
        "the map of candidates is not cleared",
        backend, "search",
        "bits.data.memset_async(0, bits.nbytes, stream)", "pass",
        "caps or out of bounds",
    ),
    HostMutant(
        "the map of candidates is cleared on another stream",
        backend, "search",
        "bits.nbytes, stream)", "bits.nbytes, stream.null)",
        "caps or out of bounds",
    ),
    HostMutant(
        "the flags of overflow are not cleared",
        backend, "search",
        "outcome.overflow.data.memset_async(0, outcome.overflow.nbytes, stream)", "pass",
        "caps",
    ),
    HostMutant(
        "means and limits are swapped",
        backend, "search",
        "mean=tables.mean, upper=tables.upper,\n        panel_start",
        "mean=tables.upper, upper=tables.mean,\n        panel_start",
        "peaks",
    ),
    HostMutant(
        "an array of the wrong type",
        backend, "search",
        'ring=on_device["ring"]', 'ring=on_device["place_of"]',
        "TypeError",
    ),
    HostMutant(
        "an argument under the name of another",
        backend, "search",
        "min_pix_count=options.min_pix_count", "least_pix_count=options.min_pix_count",
        "TypeError",
    ),
    HostMutant(
        "a grid that is rounded down",
        peakfinder8, "_ceil",
        "return -(-number // unit)", "return number // unit",
        "rings",
    ),
    HostMutant(
        "each part of a batch writes over the first",
        backend.CudaBackend, "find_peaks",
        "outcome_of(part.first, part.end)", "outcome_of(0, part.end - part.first)",
        "peaks",
    ),
)  # fmt: skip

STALE_HEADER = HostMutant(
    "compiled kernels are found again although a header has changed",
    kernels, "compile_options",
    'given["KERNELS_HASH"] = f"0x{source_hash(folder)}"', "pass",
    "peaks",
)  # fmt: skip


def changed_function(mutant: HostMutant) -> Callable[..., Any]:
    """The function with the defect in it."""
    function = inspect.unwrap(getattr(mutant.owner, mutant.name))
    text = changed(textwrap.dedent(inspect.getsource(function)), mutant.old, mutant.new)
    names: dict[str, Any] = {}
    exec(compile(text, f"<{mutant.says}>", "exec"), function.__globals__, names)
    return names[mutant.name]
