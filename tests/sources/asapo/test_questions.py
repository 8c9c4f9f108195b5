# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a service: what they need, and what is said where the client library is absent or broken."""

import os
import subprocess
import sys

import pytest

from gpuidx.errors import ServiceError
from gpuidx.secret import Secret
from gpuidx.sources.asapo.place import Where
from gpuidx.sources.asapo.questions import SIZE, ask

WHERE = Where("127.0.0.1:1", "beamtime", "source", "group")


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("gpuidx.cli, gpuidx.secret", {"numpy", "zmq", "gpuidx.options", "importlib.metadata"}),
        ("gpuidx.options, gpuidx.sources.asapo.questions", {"numpy", "zmq", "gpuidx.run"}),
        ("gpuidx.sources.asapo.answer", {"numpy", "zmq", "gpuidx.options"}),
    ],
)
def test_what_is_needed_until_a_refusal_is_known_loads_little(modules, heavy):
    program = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("raise ImportError('none')", "--asapo-endpoint: the ASAP::O client library is not installed"),
        ("import os; os._exit(1)", "the client library failed: no answer"),
        ("raise ValueError('odd')", "the client library failed: ValueError: odd"),
    ],
)
def test_a_library_that_is_not_there_or_broken_is_one_line(tmp_path, monkeypatch, library, said):
    (tmp_path / "asapo_consumer.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(ServiceError, match=said) as error:
        ask(WHERE, Secret("token"), SIZE, "stream")
    assert len(str(error.value).splitlines()) == 1
    assert error.value.exit_code == 1
