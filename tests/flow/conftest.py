# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools with the means of Linux and with the portable ones."""

import pytest
from flow.driver import Driver

from gpuidx.flow.children import Pool
from gpuidx.flow.forkserver import start_forkserver, stop_forkserver


@pytest.fixture(scope="module", params=["native", "portable"])
def way(request):
    """Both ways of doing it, each with a forkserver of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GPUIDX_PORTABLE", raising=False)
        if request.param == "portable":
            patch.setenv("GPUIDX_PORTABLE", "1")
        stop_forkserver()
        start_forkserver(["flow.bodies"])
        yield request.param
        stop_forkserver()


@pytest.fixture
def drive(way):
    """Makes a pool that is closed at the end of the test."""
    drivers = []

    def make(body="flow.bodies:obey", count=1, args=(), **options):
        driver = Driver(Pool(body, count, args, **options))
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        driver.pool.close(now=True)
