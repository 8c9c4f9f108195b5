# SPDX-License-Identifier: GPL-3.0-or-later
"""The real client library, with calls that end: some of its calls wait for ever for a silent server."""

import importlib.util
import os
import queue
import sys
import threading
from platform import machine

import pytest

LIMIT = 5.0
"""What a call may take, s; far above all time-outs here."""


class HungError(Exception):
    """A call has not returned; its thread is left behind."""


def need_library(name="asapo_consumer"):
    """Skip a test or module where the library is not installed; with CI=true fail where it could be."""
    if importlib.util.find_spec(name):
        return
    how = "pip install 'gpuidx[asapo]' (Linux on x86-64, Python up to 3.12)"
    reason = f"{name.replace('_', '-')} is not installed; {how}"
    has_wheels = sys.platform == "linux" and machine() == "x86_64" and sys.version_info < (3, 13)
    if has_wheels and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


class Consumer:
    """A consumer of the library; a call that has not returned after *limit* s raises `HungError`."""

    def __init__(self, server, *, timeout_ms=300, limit=LIMIT, token=None, beamtime=None):
        import asapo_consumer

        self._limit = limit
        self._consumer = asapo_consumer.create_consumer(
            server.endpoint,
            "auto",
            False,
            beamtime or server.beamtime,
            server.source,
            token or server.token,
            timeout_ms,
        )
        self._consumer.force_no_rdma()

    def __getattr__(self, name):
        return lambda *arguments, **named: self._call(getattr(self._consumer, name), arguments, named)

    def next(self, group="g", stream="run1", **named):
        """Metadata of the next message."""
        return self.get_next(group, meta_only=True, stream=stream, ordered=named.pop("ordered", False))[1]

    def _call(self, function, arguments, named):
        outcome = queue.SimpleQueue()

        def run():
            try:
                outcome.put((True, function(*arguments, **named)))
            except Exception as error:
                outcome.put((False, error))

        threading.Thread(target=run, daemon=True).start()
        try:
            is_result, result = outcome.get(timeout=self._limit)
        except queue.Empty:
            raise HungError(function.__name__) from None
        if is_result:
            return result
        raise result
