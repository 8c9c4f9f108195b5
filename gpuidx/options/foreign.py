# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of indexamajig that have no effect here, or are refused; `FOREIGN` has each with the reason.

All others of indexamajig's options are fields of the option classes.  docs/options.md has a table of all.
"""

from gpuidx.arguments import Effect, Foreign
from gpuidx.options.engines import REMOVED, engine_options

_NO_EFFECT = {
    "--temp-dir=": "there are no temporary files",
    "--max-indexer-threads=": "each worker is one thread; -j gives more workers",
    "--int-diag=": "no boxes of pixels are printed; 'num_implausible_reflections' is in the stream",
    "--hdf5-peaks=": "CrystFEL ignores it, too; put 'peak_list = PATH' into the geometry",
    "--no-cell-combinations": "CrystFEL ignores it, too; cells are not combined",
    "--fix-bandwidth=": "CrystFEL ignores it, too; put 'bandwidth = BW' into the geometry",
}  # fmt: skip

_REFUSED = {
    "--spectrum-file=": f"{REMOVED}; put 'bandwidth = BW' into the geometry",
}

_INTERNAL = ("fd-stream", "fd-mille", "shm-name", "queue-semaphore", "worker-id", "worker-tmpdir")
"""Given by indexamajig to its own workers."""


def _foreign(flag: str, effect: Effect, text: str) -> Foreign:
    return Foreign((flag.removesuffix("="),), flag.endswith("="), effect, text)


FOREIGN = (
    *(_foreign(flag, "none", text) for flag, text in _NO_EFFECT.items()),
    *(_foreign(flag, "refused", text) for flag, text in _REFUSED.items()),
    *(_foreign(f"--{name}=", "refused", "is between the processes of indexamajig") for name in _INTERNAL),
    *engine_options(),
)
"""Every option of indexamajig that is no field of the option classes."""
