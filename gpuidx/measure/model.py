# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate that a machine reaches, from what each stage costs; no more than sums and quotients.

A run is a line of stages, each on processors of its own; its rate is that of the slowest:

    receiving     one thread of the main process      1 / (receive + copy)
    the network   one thread of libzmq                1 / network
    the cores     all of them                         cores / (what all processes spend on a frame)
    the bus       of each GPU                         gpus / upload
    the kernels   of each GPU                         gpus / (search + hits × trials)

docs/performance.md has this beside what was measured.
"""

import math
from dataclasses import dataclass

RECEIVING, NETWORK, CORES, BUS, KERNELS = "receiving", "network", "cores", "bus", "kernels"
"""What may limit the rate."""

HEADROOM = 0.8
"""Share of what a machine reaches that it should be asked for: queues grow without bound towards 1."""


@dataclass(frozen=True, kw_only=True)
class DeviceCosts:
    """Seconds that one CUDA device spends on a frame, in full batches.

    Attributes
    ----------
    upload
        Of the bus; of compressed pixels where a run leaves them so.
    search
        Of the kernels, without trials; with that which decodes.
    trials
        Of the kernels, for a hit.
    """

    upload: float
    search: float
    trials: float


@dataclass(frozen=True, kw_only=True)
class Costs:
    """CPU seconds of one core that a frame costs.

    Attributes
    ----------
    receive
        In the main thread without the copy: ask, hand out, collect, write.
    copy
        In the main thread, of the message into its slot.
    network
        In libzmq's thread.
    decode, search, text
        In a worker, of any frame.
    decode_hit, trials, refine, integrate, text_hit
        In a worker, of a hit, on top of that.
    device
        None without a CUDA device; with one it searches and tries instead of the worker.
    """

    receive: float
    copy: float
    network: float
    decode: float
    search: float
    text: float
    decode_hit: float
    trials: float
    refine: float
    integrate: float
    text_hit: float
    device: DeviceCosts | None = None

    def worker(self, hits: float) -> float:
        """CPU seconds of a worker for a frame, where the share *hits* of them are hits."""
        of_any = self.decode + self.text
        of_hits = self.decode_hit + self.refine + self.integrate + self.text_hit
        if self.device is None:
            of_any, of_hits = of_any + self.search, of_hits + self.trials
        return of_any + hits * of_hits

    def everything(self, hits: float) -> float:
        """CPU seconds of all processes for a frame."""
        return self.receive + self.copy + self.network + self.worker(hits)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a rate takes, with `HEADROOM`.

    Attributes
    ----------
    programs
        That share the source out, where one main process is not enough.
    workers
        For ``-j``, of all of them together.
    cores, gpus
        Of all machines together.
    """

    programs: int
    workers: int
    cores: int
    gpus: int


def limits(
    costs: Costs, hits: float, cores: float, gpus: int = 0, elsewhere: float = 0.0
) -> dict[str, float]:
    """Frames per second that each resource allows.

    Parameters
    ----------
    costs
        Of a frame.
    hits
        Share of frames that are hits, 0 to 1.
    cores, gpus
        Of the machine; *gpus* count only where the costs have a device.
    elsewhere
        CPU seconds a frame that the same cores spend on something else, such as on sending it.
    """
    found = {
        RECEIVING: _per(costs.receive + costs.copy),
        NETWORK: _per(costs.network),
        CORES: cores * _per(costs.everything(hits) + elsewhere),
    }
    if costs.device is not None:
        found[BUS] = gpus * _per(costs.device.upload)
        found[KERNELS] = gpus * _per(_kernels(costs.device, hits))
    return found


def slowest(allowed: dict[str, float]) -> tuple[str, float]:
    """What limits, and the rate."""
    return min(allowed.items(), key=lambda item: item[1])


def needs(costs: Costs, hits: float, rate: float) -> Needs:
    """What it takes to keep up with so many frames per second."""
    wanted = rate / HEADROOM
    thread = max(costs.receive + costs.copy, costs.network)
    gpus = 0
    if costs.device is not None:
        gpus = _whole(wanted * max(costs.device.upload, _kernels(costs.device, hits)))
    return Needs(
        programs=_whole(wanted * thread),
        workers=_whole(wanted * costs.worker(hits)),
        cores=_whole(wanted * costs.everything(hits)),
        gpus=gpus,
    )


def _kernels(device: DeviceCosts, hits: float) -> float:
    return device.search + hits * device.trials


def _per(seconds: float) -> float:
    return 1.0 / seconds if seconds > 0 else math.inf


def _whole(amount: float) -> int:
    return max(1, math.ceil(amount))
