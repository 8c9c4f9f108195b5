# SPDX-License-Identifier: GPL-3.0-or-later
"""Main's side of ASAP::O, with a pool of readers that is made up."""

from gpuidx.secret import Secret
from gpuidx.sources.asapo import source
from gpuidx.sources.asapo.place import Where


class Readers:
    """All of them have died, and left steps behind."""

    restarts = 1

    def __init__(self, *_, **__):
        self.n_waiting = 2

    def collect(self, events):
        return []

    def room(self):
        return 0

    def hand_out(self):
        self.n_waiting = 0


def test_steps_that_a_dead_reader_leaves_go_to_its_successor_though_no_others_follow(monkeypatch):
    readers = Readers()
    monkeypatch.setattr(source, "Pool", lambda *_, **__: readers)
    asapo = source.Asapo(Where("host:1", "beamtime", "source", "group"), Secret("token"), "run1")
    asapo.attach(None, 0)
    asapo.notice({})
    assert readers.n_waiting == 0
