# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses which CPUs (``--cpu-pin``), from what the kernel says of nodes, cores and hyperthreads.

A node is a part of the machine with memory of its own (NUMA): a socket, or a quarter of one.  What belongs
together is put on the node of the first device, or else on the node with most CPUs: the device process, the
main process and the receivers, so that libzmq's threads copy messages there, and the slots, whose pages the
main process is the first to touch.  Workers come as near as there are free cores.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from statistics import mode
from typing import NamedTuple

Cpus = tuple[int, ...]
"""Numbers of CPUs, as the kernel counts them."""

SYSTEM = Path("/sys")


class Cpu(NamedTuple):
    """A CPU that may be used.

    Attributes
    ----------
    number, node
        As the kernel counts them.
    thread
        Its place among the usable CPUs of its core: 0 but for further hyperthreads.
    """

    number: int
    node: int
    thread: int


class Topology(NamedTuple):
    """The CPUs that may be used, and the distances from node to node."""

    cpus: Sequence[Cpu]
    distances: Mapping[tuple[int, int], int]

    def from_node(self, node: int) -> list[Cpu]:
        """All CPUs as seen from a node: cores before hyperthreads, then the nearest first."""
        return sorted(
            self.cpus,
            key=lambda cpu: (cpu.thread, cpu.node != node, self.distances.get((node, cpu.node), 0), cpu),
        )


class Placement(NamedTuple):
    """The CPUs of each process; none where it may use any.

    Attributes
    ----------
    main
        Also of the receivers, which share them with the main process.
    workers, devices
        Of each worker and each device process.
    """

    main: Cpus = ()
    workers: Sequence[Cpus] = ()
    devices: Sequence[Cpus] = ()

    def __str__(self) -> str:
        groups = {"main process": [self.main], "workers": self.workers, "device processes": self.devices}
        return ", ".join(f"{name} {cpu_list(chain(*cpus))}" for name, cpus in groups.items() if cpus)


ANYWHERE = Placement()


def place(
    topology: Topology, n_worker: int, devices: Sequence[int | None] = (), n_thread: int = 2
) -> Placement:
    """Give each worker and each device process a CPU, and the others what is left on their node.

    Parameters
    ----------
    topology
        With at least as many CPUs as there are workers and devices.
    n_worker
        Number of workers.
    devices
        The node of each device; None where it is not known.
    n_thread
        Threads of the main process and of the receivers: so many CPUs are kept for them, if there are.
    """
    near = next((node for node in devices if node is not None), mode(cpu.node for cpu in topology.cpus))
    free = topology.from_node(near)
    home = [cpu for cpu in free if cpu.node == free[0].node]
    of_devices = []
    for node in devices:
        own = next(cpu for cpu in topology.from_node(near if node is None else node) if cpu in free)
        free.remove(own)
        of_devices.append(own)
    n_kept = min(n_thread, len(free) - n_worker)
    kept = [cpu for cpu in free if cpu in home][:n_kept]
    of_workers = [cpu for cpu in free if cpu not in kept][:n_worker]
    rest = [cpu for cpu in home if cpu not in (*of_devices, *of_workers)]
    return Placement(
        tuple(sorted(cpu.number for cpu in rest or home)),
        tuple((cpu.number,) for cpu in of_workers),
        tuple((cpu.number,) for cpu in of_devices),
    )


def read_topology(usable: Sequence[int], system: Path = SYSTEM) -> Topology:
    """What the kernel says of the CPUs that may be used; without it, one node of cores."""
    nodes = sorted((int(path.name[4:]), path) for path in system.glob("devices/system/node/node[0-9]*"))
    node_of = {cpu: node for node, path in nodes for cpu in _read_list(path / "cpulist")}
    distances = {
        (node, other): distance
        for node, path in nodes
        for (other, _), distance in zip(nodes, _read_words(path / "distance"), strict=False)
    }
    cpus = []
    for number in usable:
        siblings = _read_list(system / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        same_core = [cpu for cpu in siblings if cpu in usable] or [number]
        cpus.append(Cpu(number, node_of.get(number, 0), same_core.index(number)))
    return Topology(cpus, distances)


def node_of_device(address: str, system: Path = SYSTEM) -> int | None:
    """The node to which a device is attached, by its PCI address; None where that is not known."""
    node = _read_words(system / "bus/pci/devices" / address.lower() / "numa_node")
    return node[0] if node and node[0] >= 0 else None


def cpu_list(cpus: Iterable[int]) -> str:
    """Numbers of CPUs as the kernel writes them: ``0-3,8``."""
    runs = groupby(enumerate(sorted(cpus)), key=lambda item: item[1] - item[0])
    ranges = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}" for run in ranges)


def _read_list(file: Path) -> list[int]:
    """Numbers that the kernel has written as ranges; none if the file cannot be read."""
    numbers: list[int] = []
    with suppress(OSError, ValueError):
        for words in filter(None, file.read_text(encoding="ascii").strip().split(",")):
            first, _, last = words.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def _read_words(file: Path) -> list[int]:
    """Numbers with blanks between them; none if the file cannot be read."""
    with suppress(OSError, ValueError):
        return [int(word) for word in file.read_text(encoding="ascii").split()]
    return []
