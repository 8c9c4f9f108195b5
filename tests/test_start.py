# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from gpuidx import start
from gpuidx.errors import OptionError
from gpuidx.flow.placement import ANYWHERE, Placement
from gpuidx.geometry import parse_geometry
from gpuidx.handover import FOUND_BYTES
from gpuidx.options import Options
from gpuidx.selection import Choice
from gpuidx.simulation.detector import default_geometry
from gpuidx.sources.receivers import SPARE_SLOTS

GEOMETRY = parse_geometry(default_geometry(512), "test.geom")
N_PIXEL = GEOMETRY.slab_shape[0] * GEOMETRY.slab_shape[1]


def options(**more):
    given = {"peaks": "peakfinder8", "indexing": "none", "zmq_input": ("tcp://h:1",), "zmq_request": "next"}
    return Options(geometry="x.geom", output="x.stream", **(given | more))


@pytest.fixture
def memory(monkeypatch):
    def has(n_byte):
        monkeypatch.setattr(start, "memory_available", lambda: n_byte)

    has(None)
    return has


def test_a_slot_has_room_for_a_message_the_image_and_what_is_found_in_it(memory):
    message = start.slot_bytes(options(), GEOMETRY, 0)
    assert message == start.message_bytes(options(), GEOMETRY) > 4 * N_PIXEL
    assert start.slot_bytes(options(), GEOMETRY, 1) >= message + 4 * N_PIXEL + FOUND_BYTES


def test_what_the_user_says_is_the_size_of_a_message(memory):
    assert start.message_bytes(options(slot_size=2.5), GEOMETRY) == 2_500_000
    assert start.slot_bytes(options(slot_size=2.5), GEOMETRY, 2) > 2_500_000 + 4 * N_PIXEL


def test_each_device_adds_three_batches_of_slots(memory):
    assert start.slot_count(options(jobs=3), 0, 1) == 16
    assert start.slot_count(options(jobs=3, gpu_batch=10), 2, 1) == 16 + 60
    assert start.slot_count(options(slots=5), 2, 1) == 5


def test_slots_for_devices_take_no_more_than_half_of_the_memory(memory):
    memory(100)
    assert start.slot_count(options(gpu_batch=10), 1, 2) == 25
    assert start.slot_count(options(gpu_batch=10), 1, 30) == 8


@pytest.mark.parametrize("peaks", ["msgpack", "none"])
def test_devices_are_left_alone_if_no_peaks_are_searched(peaks, memory):
    choice = Choice("cuda", "backend: cuda", (0, 1))
    assert start.devices_for(options(), choice) == (0, 1)
    assert start.devices_for(options(peaks=peaks), choice) == ()


@pytest.mark.parametrize(
    ("cpus", "text"),
    [
        ([0, 1, 2], "a CPU for each of 4 processes, and there are 3"),
        (None, "cannot be pinned to CPUs on this system"),
    ],
)
def test_pinned_processes_need_a_cpu_each(cpus, text, monkeypatch):
    monkeypatch.setattr(start, "usable_cpus", lambda: cpus)
    choice = Choice("cuda", "backend: cuda", (0,))
    assert start.placement(options(jobs=3), choice) == ANYWHERE
    with pytest.raises(OptionError, match=text):
        start.placement(options(jobs=3, cpu_pin=True), choice)


def test_pinned_processes_are_near_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "usable_cpus", lambda: [0, 1, 2, 3, 4, 5])
    for node, cpus in enumerate(("0-1", "2-5")):
        folder = tmp_path / f"devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus)
    device = tmp_path / "bus/pci/devices/0000:41:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text("0")
    choice = Choice("cuda", "backend: cuda", (1,), addresses={1: "0000:41:00.0"})
    placed = start.placement(options(jobs=2, cpu_pin=True), choice, tmp_path)
    assert placed == Placement((1,), ((2,), (3,)), ((0,),))
    alone = start.placement(options(jobs=1, cpu_pin=True, zmq_receivers=1), Choice("cpu", ""), tmp_path)
    assert alone == Placement((2, 3, 4, 5), ((0,),))


def test_each_receiver_has_slots_of_its_own(memory):
    given = {"jobs": 3, "zmq_requests": 5, "zmq_receivers": 2}
    assert start.slot_count(options(**given), 0, 1) == 16 + 2 * (3 + SPARE_SLOTS)
    least = 2 * (3 + SPARE_SLOTS) + 3
    assert start.slot_count(options(**given, slots=least), 0, 1) == least
    with pytest.raises(OptionError, match=f"it must be at least {least}"):
        start.slot_count(options(**given, slots=least - 1), 0, 1)
