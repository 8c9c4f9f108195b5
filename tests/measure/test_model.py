# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.model`: what limits, what a rate needs."""

from dataclasses import replace

import pytest

from gpuidx.measure.model import (
    BUS,
    CORES,
    KERNELS,
    NETWORK,
    RECEIVING,
    Costs,
    DeviceCosts,
    limits,
    needs,
    slowest,
)

COSTS = Costs(
    receive=1e-4, copy=3e-4, network=5e-4, decode=1e-3, search=2e-3, text=1e-4, decode_hit=4e-4,
    trials=1e-3, refine=5e-4, integrate=1.1e-3, text_hit=1e-4,
)  # fmt: skip
ON_DEVICE = replace(COSTS, device=DeviceCosts(upload=2e-4, search=1e-4, trials=3e-4))


def test_a_hit_costs_more_than_a_blank():
    assert COSTS.worker(0.0) == pytest.approx(3.1e-3)
    assert COSTS.worker(1.0) == pytest.approx(3.1e-3 + 3.1e-3)
    assert COSTS.everything(0.5) == pytest.approx(9e-4 + 3.1e-3 + 1.55e-3)


def test_a_device_takes_search_and_trials_off_the_workers():
    assert ON_DEVICE.worker(0.0) == pytest.approx(1.1e-3)
    assert ON_DEVICE.worker(1.0) == pytest.approx(1.1e-3 + 2.1e-3)


def test_few_cores_limit_and_many_leave_the_threads_of_the_main_process():
    assert slowest(limits(COSTS, 0.0, 2)) == (CORES, pytest.approx(500))
    assert slowest(limits(COSTS, 0.0, 100)) == (NETWORK, pytest.approx(2000))
    assert limits(COSTS, 0.0, 100)[RECEIVING] == pytest.approx(2500)


def test_what_the_sender_takes_of_the_same_cores_counts():
    assert limits(COSTS, 0.0, 2, elsewhere=4e-3)[CORES] == pytest.approx(250)


def test_bus_and_kernels_limit_only_where_there_is_a_device():
    assert set(limits(COSTS, 0.2, 2, 1)) == {RECEIVING, NETWORK, CORES}
    allowed = limits(ON_DEVICE, 1.0, 2, 2)
    assert allowed[BUS] == pytest.approx(10000)
    assert allowed[KERNELS] == pytest.approx(5000)


def test_what_costs_nothing_does_not_limit():
    assert limits(replace(COSTS, network=0.0), 0.0, 1)[NETWORK] == float("inf")


def test_a_rate_needs_cores_programs_and_gpus_with_headroom():
    need = needs(ON_DEVICE, 1.0, 4000)  # 5000 with the headroom
    assert (need.programs, need.workers, need.cores, need.gpus) == (3, 16, 21, 2)
    assert needs(COSTS, 1.0, 0.001).cores == 1
    assert needs(COSTS, 1.0, 4000).gpus == 0
