# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.flow.placement import Cpu, Topology, cpu_list, node_of_device, place, read_topology


def machine(system, nodes, cores=(), distances=()):
    """Write what the kernel says: the CPUs of each node, the threads of each core, a row for each node."""
    for number, cpus in enumerate(nodes):
        folder = system / f"devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
        if distances:
            (folder / "distance").write_text(" ".join(map(str, distances[number])) + "\n")
    for threads in cores:
        for cpu in threads:
            folder = system / f"devices/system/cpu/cpu{cpu}/topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(",".join(map(str, threads)) + "\n")
    return system


def numbers(cpus):
    return [number for (number,) in cpus]


def test_without_word_from_the_kernel_there_is_one_node_of_cores(tmp_path):
    placed = place(read_topology([4, 5, 6], tmp_path), 2)
    assert (placed.main, numbers(placed.workers)) == ((4,), [5, 6])


def test_main_shares_the_cpus_of_the_others_if_none_is_left(tmp_path):
    placed = place(read_topology([4, 5, 6], tmp_path), 2, [None])
    assert (placed.main, numbers(placed.workers), numbers(placed.devices)) == ((4, 5, 6), [5, 6], [4])


def test_cores_come_before_hyperthreads(tmp_path):
    system = machine(tmp_path, ["0-7"], [(0, 4), (1, 5), (2, 6), (3, 7)])
    placed = place(read_topology(range(8), system), 5, [0])
    assert numbers(placed.devices) == [0]
    assert placed.main == (1, 2)
    assert numbers(placed.workers) == [3, 4, 5, 6, 7]


def test_a_thread_whose_sibling_may_not_be_used_is_a_core(tmp_path):
    system = machine(tmp_path, ["0-3"], [(0, 2), (1, 3)])
    assert [cpu.thread for cpu in read_topology([1, 2, 3], system).cpus] == [0, 0, 1]


def test_all_are_near_the_device_as_far_as_there_are_cpus(tmp_path):
    system = machine(tmp_path, ["0,2,4,6,8", "1,3,5,7,9"])
    placed = place(read_topology(range(10), system), 4, [1])
    assert numbers(placed.devices) == [1]
    assert placed.main == (3, 5)
    assert numbers(placed.workers) == [7, 9, 0, 2]


def test_each_device_process_is_near_its_device(tmp_path):
    system = machine(tmp_path, ["0-3", "4-7"])
    placed = place(read_topology(range(8), system), 4, [1, 0, 1])
    assert numbers(placed.devices) == [4, 0, 5]
    assert placed.main == (6,)  # five processes of eight have a CPU of their own


def test_workers_without_a_device_are_on_the_node_with_most_cpus(tmp_path):
    system = machine(tmp_path, ["0-3", "4-7", ""])
    placed = place(read_topology([2, 3, 5, 6, 7], system), 1)
    assert (placed.main, numbers(placed.workers)) == ((5, 6), [7])


def test_the_next_node_is_the_nearest_of_those_that_may_be_used(tmp_path):
    def distance(one, other):
        return 10 if one == other else 12 if one // 4 == other // 4 else 32

    epyc = [[distance(one, other) for other in range(8)] for one in range(8)]
    nodes = [f"{8 * node}-{8 * node + 7}" for node in range(8)]
    system = machine(tmp_path, nodes, distances=epyc)
    topology = read_topology([*range(16), *range(40, 44), *range(56, 64)], system)
    placed = place(topology, 12, [5])
    assert numbers(placed.devices) == [40]
    assert placed.main == (41, 42)
    assert numbers(placed.workers) == [43, *range(56, 64), 0, 1, 2]
    elsewhere = place(topology, 2, [6])  # of whose node no CPU may be used
    assert (numbers(elsewhere.devices), elsewhere.main) == ([40], (41, 42))
    assert numbers(elsewhere.workers) == [43, 56]


def test_receivers_have_room_beside_main(tmp_path):
    placed = place(read_topology(range(8), tmp_path), 3, n_thread=4)
    assert (placed.main, numbers(placed.workers)) == ((0, 1, 2, 3, 7), [4, 5, 6])


@given(
    st.dictionaries(st.integers(0, 300), st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=4),
    st.lists(st.none() | st.integers(0, 9), max_size=2),
    st.integers(1, 6),
    st.data(),
)
def test_nobody_shares_a_cpu_with_a_worker_or_a_device_while_there_are_enough(cpus, devices, threads, data):
    topology = Topology([Cpu(number, *where) for number, where in sorted(cpus.items())], {})
    n_worker = data.draw(st.integers(1, len(cpus) - len(devices)))
    placed = place(topology, n_worker, devices, threads)
    own = numbers([*placed.workers, *placed.devices])
    assert len(set(own)) == len(own) == n_worker + len(devices)
    assert set(own) <= set(cpus)
    assert set(placed.main) <= set(cpus)
    assert len({cpus[number][0] for number in placed.main}) == 1


def test_the_node_of_a_device_is_known_by_its_pci_address(tmp_path):
    for address, node in (("0000:c1:00.0", "1"), ("0000:01:00.0", "-1")):
        folder = tmp_path / "bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    assert node_of_device("0000:C1:00.0", tmp_path) == 1
    assert node_of_device("0000:01:00.0", tmp_path) is None
    assert node_of_device("", tmp_path) is None


@pytest.mark.parametrize(
    ("cpus", "text"), [([], ""), ([3], "3"), ([9, 1, 0, 2, 4], "0-2,4,9"), ([5, 6], "5-6")]
)
def test_lists_of_cpus_are_written_as_the_kernel_does(cpus, text):
    assert cpu_list(cpus) == text


def test_it_is_said_who_is_where(tmp_path):
    placed = place(read_topology(range(6), tmp_path), 3, [None])
    assert str(placed) == "main process 1-2, workers 3-5, device processes 0"
