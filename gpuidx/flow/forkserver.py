# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting children from a forkserver that has loaded and warmed what they need.

A child is there within some 12 ms instead of 600, and fork meets no threads, sockets or CUDA.
Nothing of main's own program is imported in children: they get their body by name (see `child`).
"""

import logging
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerProcess
from typing import Any

from gpuidx.errors import WorkerError
from gpuidx.flow import platform
from gpuidx.flow.platform import MAIN_VARIABLE, PRELOAD_VARIABLE
from gpuidx.flow.stop import SIGNALS

_LIFELINE = "gpuidx.flow.lifeline"
_TRIES = 10
_BETWEEN_TRIES = 0.02
_log = logging.getLogger(__name__)
_preload: tuple[str, ...] = ()


def start_forkserver(preload: Sequence[str]) -> None:
    """Start the forkserver, which goes on loading the modules named in *preload* by itself.

    To be called early, from the main thread, before sockets are opened.  A module that cannot be loaded is
    reported by the first child.  The warming is done by a module's import: what it has called is compiled
    in every child.  A later call changes what a new forkserver loads, if this one should end.
    """
    global _preload
    _preload = tuple(preload)
    get_context("forkserver").set_forkserver_preload([_LIFELINE])
    _see_that_it_runs()


def stop_forkserver() -> None:
    """End the forkserver and whatever children it has left; it may be loading modules for a long time yet."""
    pid = forkserver_pid()
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def forkserver_pid() -> int | None:
    """Process number of the forkserver; None if there is none."""
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


def start_child(
    target: Callable[..., None], args: tuple[Any, ...], name: str
) -> tuple[ForkServerProcess, socket.socket]:
    """Start a process that runs ``target(its end of a channel, *args)``; gives it and main's end.

    The forkserver may have been killed: then starting fails until the dead one can be waited for, and each
    try gets a channel of its own, for a failed one may have made a child all the same, and two children on
    one channel would lose tasks.

    Raises
    ------
    WorkerError
        If it cannot be started.
    """
    for tries_left in reversed(range(_TRIES)):
        ours, theirs = platform.packet_pair()
        try:
            with _no_main_module():
                _see_that_it_runs()
                process = get_context("forkserver").Process(
                    target=target, args=(theirs, *args), name=name, daemon=True
                )
                process.start()
        except (EOFError, OSError) as error:
            ours.close()
            if not tries_left:
                raise WorkerError(f"no process can be started: {type(error).__name__}: {error}") from error
            time.sleep(_BETWEEN_TRIES)
        except BaseException:
            ours.close()
            raise
        else:
            return process, ours
        finally:
            theirs.close()  # else the child's death would be no end of file
    raise AssertionError("unreachable")


def _see_that_it_runs() -> None:
    """Start the forkserver if there is none, with our signals blocked in it and in its children.

    Blocked rather than ignored, so that one that main gets meanwhile is not lost; children ignore them.
    """
    resource_tracker.ensure_running()  # unblocks them otherwise
    paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109  (a plain string is wanted)
    environment = {
        PRELOAD_VARIABLE: ",".join(_preload),
        MAIN_VARIABLE: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with _no_main_module(), _environment(environment), _blocked():
        forkserver.ensure_running()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide ``__main__``: each child would import it again, which takes time and may run a script anew."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
