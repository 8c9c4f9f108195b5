# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from sources.asapo.clocks import Clock


@pytest.fixture
def clock(monkeypatch):
    """Of everything that decides by time."""
    made = Clock()
    for module in ("ending", "outage", "messages"):
        monkeypatch.setattr(f"gpuidx.sources.asapo.{module}.time", made)
    return made
