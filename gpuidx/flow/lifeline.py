# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported by the forkserver alone: it and its children end with main, and modules are loaded ahead.

Never import it in main, which would then end with the shell that started it.

The forkserver's own way to notice main's death, the end of file on a pipe, fails while one child lives, for
every child holds a copy of that pipe; a child that is stopped, or loops in C, would live for ever.
`multiprocessing` swallows an ImportError in a module that is to be preloaded; here the text is kept for the
first child to report.
"""

import gc
import importlib
import os
import signal

from gpuidx.flow.platform import MAIN_VARIABLE, PRELOAD_VARIABLE, end_with_parent, thread_count

loaded: list[str] = []
"""Modules that were loaded ahead."""

notes: list[str] = []
"""What went wrong with the loading, a line each."""


def _preload(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
            loaded.append(name)
        except (Exception, SystemExit) as error:
            notes.append(f"{name}: {type(error).__name__}: {error}")
    if thread_count() > 1:
        notes.append("a preloaded module has started threads, which do not survive in children")


def _remember() -> None:
    global _forker
    _forker = os.getpid()


def _after_fork() -> None:
    end_with_parent()  # the kernel does not hand the request on to a child
    if os.getppid() != _forker:  # the forkserver died before the request was made
        os.kill(os.getpid(), signal.SIGKILL)


# One core a worker, and threads do not survive a fork: to be said before the first library asks.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
_forker = os.getpid()
end_with_parent()
if os.environ.pop(MAIN_VARIABLE, str(os.getppid())) != str(os.getppid()):
    os._exit(1)  # main has died before the request was made
_preload([name for name in os.environ.pop(PRELOAD_VARIABLE, "").split(",") if name])
gc.collect()
gc.freeze()  # what is shared with the children stays shared
os.register_at_fork(before=_remember, after_in_child=_after_fork)
