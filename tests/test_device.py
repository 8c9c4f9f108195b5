# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a device process, with a port, a clock and a backend that are made up."""

from collections import deque

import numpy as np
import pytest

from gpuidx import handover
from gpuidx.device import BETWEEN_LOOKS, NO_ROOM, UNUSABLE, SeriesMasks, Service
from gpuidx.flow.slots import Slots
from gpuidx.geometry import parse_geometry
from gpuidx.model import Found, PeakList
from gpuidx.simulation.detector import default_geometry
from gpuidx.tasks import ONLY, Messages, Task

LATENCY = 0.02
NOTHING = [[], [], []]
"""Times that nothing comes: a clock of floating point may need one more to reach a deadline."""


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class FakePort:
    """Gives the tasks of a script, one entry a call; moves the clock by what the service would wait."""

    def __init__(self, script, clock):
        self.script, self.clock = deque(script), clock
        self.waits, self.answers, self.counters = [], [], [0] * handover.COUNTERS

    def poll(self, timeout):
        self.waits.append(timeout)
        if not self.script:
            return None
        tasks = self.script.popleft()
        if not tasks and timeout is None:
            return None  # it would wait for ever
        self.clock.now += 0 if tasks else timeout
        return tasks

    def answer(self, serial, *values):
        self.answer_all([(serial, *values)])

    def answer_all(self, answers):
        self.answers.append([(*answer, self.clock.now) for answer in answers])

    @property
    def serials(self):
        return [[answer[0] for answer in packet] for packet in self.answers]


class FakeBackend:
    """Batches of four, two at a time; a frame is done when its batch has been asked about *looks* times.

    *slow*: serials that take as many looks more.
    """

    name, batch_size, most_under_way = "cuda", 4, 2

    def __init__(self, looks=0, slow=None, too_many=(), n_peak=3):
        self.looks, self.slow, self.too_many, self.n_peak = looks, slow or {}, too_many, n_peak
        self.batches, self.most = [], 0
        self.under_way = {}

    def upload(self, frames):
        assert 0 < len(frames) <= self.batch_size
        serials = [frame.serial for frame in frames]
        self.batches.append(serials)
        self.under_way[len(self.batches)] = {
            number: self.looks + self.slow.get(serial, 0) for number, serial in enumerate(serials)
        }
        self.most = max(self.most, len(self.under_way))
        assert len(self.under_way) <= self.most_under_way
        return len(self.batches)

    @property
    def has_room(self):
        return len(self.under_way) < self.most_under_way

    def find_peaks(self, batch):
        pass

    def index(self, batch):
        pass

    def finished(self, batch):
        left = self.under_way[batch]
        over = [number for number, looks in left.items() if looks == 0]
        self.under_way[batch] = {number: looks - 1 for number, looks in left.items() if looks}
        if not self.under_way[batch]:
            del self.under_way[batch]
        return [(number, self._found(self.batches[batch - 1][number])) for number in over]

    def _found(self, serial):
        if serial in self.too_many:
            return None
        zeros = np.zeros(self.n_peak)
        peaks = PeakList(fs=zeros + serial, ss=zeros, panel=zeros.astype(np.int32), intensity=zeros)
        return Found(peaks=peaks, candidates=None, n_tries=0)


GEOMETRY = parse_geometry(default_geometry(64), "test.geom")


@pytest.fixture
def serve():
    slots = Slots(16, handover.extra_bytes(GEOMETRY))

    def run(script, backend):
        clock = Clock()
        port = FakePort(script, clock)
        Service(port, slots, GEOMETRY, backend, LATENCY, clock).run()
        return port

    run.slots = slots
    yield run
    slots.close()


def task(serial, clen=0.1):
    return (serial, serial % 16, 0, "u2", 1.3, clen, 0.0, 0.0)


def test_pixel_masks_of_series_that_are_the_same_are_the_same_object(serve):
    slots, shape = serve.slots, GEOMETRY.slab_shape
    one, other = (np.arange(64 * 64).reshape(shape) % n == 0 for n in (3, 5))
    masks, said = SeriesMasks(slots, shape), []
    for series, mask in enumerate((one, one, other, one), 1):
        message = Task(0, 0, "", "", ONLY, 0, (9,), series, series, (100,))
        start = bytes(slots[series][:100])
        for _ in range(2):  # workers
            assert Messages(slots).keep_mask(message, mask)
        assert bytes(slots[series][:100]) == start
        descriptor = handover.Descriptor(*task(1)[2:])._replace(series=series, series_slot=series)
        said.append(masks.of(descriptor))
        np.testing.assert_array_equal(said[-1], mask)
    assert said[0] is said[1]
    assert said[3] is said[1] is not said[2]
    assert masks.of(handover.Descriptor(*task(1)[2:])) is None


def test_a_slot_without_room_is_given_no_pixel_mask(serve):
    size = len(serve.slots[1])
    message = Task(0, 0, "", "", ONLY, 0, (9,), 1, 1, (size - 64 * 64 + 1,))
    assert not Messages(serve.slots).keep_mask(message, np.ones((64, 64), bool))


def test_a_full_batch_goes_at_once(serve):
    backend = FakeBackend()
    port = serve([[task(n) for n in range(4)]], backend)
    assert backend.batches == port.serials == [[0, 1, 2, 3]]
    assert all(answer[1:] == (handover.FOUND, Clock.now) for answer in port.answers[0])


def test_a_single_frame_goes_after_the_latency(serve):
    port = serve([[task(1)], *NOTHING], FakeBackend())
    assert port.answers == [[(1, handover.FOUND, pytest.approx(Clock.now + LATENCY))]]
    assert port.waits[0] is None


def test_a_frame_that_comes_later_leaves_with_the_first(serve):
    class Late(FakePort):
        def poll(self, timeout):
            tasks = super().poll(timeout)
            if tasks:
                self.clock.now += 0.5 * LATENCY
            return tasks

    clock = Clock()
    port = Late([[task(1)], [task(2)], *NOTHING], clock)
    Service(port, serve.slots, GEOMETRY, FakeBackend(), LATENCY, clock).run()
    assert port.serials == [[1, 2]]


def test_no_more_batches_are_under_way_than_the_device_takes(serve):
    backend = FakeBackend(looks=3)
    port = serve([[task(n) for n in range(14)], *NOTHING * 100], backend)
    assert backend.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13]]
    assert port.serials == backend.batches
    assert backend.most == backend.most_under_way


def test_a_slow_frame_keeps_no_other_waiting(serve):
    backend = FakeBackend(slow={1: 5})
    port = serve([[task(n) for n in range(10)], *NOTHING * 100], backend)
    assert port.serials == [[0, 2, 3], [4, 5, 6, 7], [1], [8, 9]]


def test_while_a_batch_is_under_way_it_looks_often_and_never_waits_for_a_task(serve):
    port = serve([[task(n) for n in range(4)], [], [], []], FakeBackend(looks=3))
    assert all(wait is not None and wait <= 0.001 for wait in port.waits[1:4])
    assert port.waits[4] is None


def test_what_was_found_lies_in_the_slot(serve):
    serve([[task(n) for n in range(4)]], FakeBackend())
    for n in range(4):
        assert handover.read_found(serve.slots[n]).peaks.fs.tolist() == [n, n, n]


def test_a_frame_over_a_cap_goes_to_the_cpu_and_the_others_do_not(serve):
    port = serve([[task(n) for n in range(4)]], FakeBackend(too_many=(2,)))
    assert [answer[1] for answer in port.answers[0]] == [
        handover.FOUND, handover.FOUND, handover.ON_CPU, handover.FOUND
    ]  # fmt: skip
    assert port.answers[0][2][2] == NO_ROOM


def test_more_peaks_than_a_slot_has_room_for_go_to_the_cpu(serve):
    port = serve([[task(n) for n in range(4)]], FakeBackend(n_peak=handover.MAX_PEAKS + 1))
    assert {answer[1] for answer in port.answers[0]} == {handover.ON_CPU}


def test_a_frame_whose_detector_cannot_be_costs_the_others_nothing(serve):
    backend = FakeBackend()
    port = serve([[task(0), task(1, clen=0.0), task(2), task(3)]], backend)
    assert backend.batches == [[0, 2, 3]]
    assert (1, handover.ON_CPU, UNUSABLE) in [a[:3] for packet in port.answers for a in packet]


def test_a_batch_of_nothing_usable_is_not_begun(serve):
    backend = FakeBackend()
    port = serve([[task(n, clen=0.0) for n in range(4)]], backend)
    assert backend.batches == []
    assert len(port.answers) == 4


def test_counters_tell_how_full_batches_were(serve):
    port = serve([[task(n) for n in range(6)], *NOTHING], FakeBackend())
    assert port.counters[handover.BATCHES] == 2
    assert port.counters[handover.FRAMES] == 6
    assert port.counters[handover.PLACES] == 8


def test_counters_tell_what_the_device_did_in_the_meantime(serve):
    port = serve([[task(0)], *NOTHING, [task(1)], *NOTHING * 2], FakeBackend(looks=2))
    looks = sum(wait is not None and 0 < wait < 0.001 for wait in port.waits)
    assert looks == 4
    assert port.counters[handover.WORKING] == pytest.approx(1e6 * looks * BETWEEN_LOOKS, rel=1e-3)
    assert port.counters[handover.FILLING] == pytest.approx(2e6 * LATENCY, rel=1e-3)
