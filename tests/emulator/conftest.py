# SPDX-License-Identifier: GPL-3.0-or-later
"""The pretended device, in each order."""

import pytest

from emulator import need, pretended_cuda


@pytest.fixture(scope="session")
def cupy():
    """CuPy on the pretended device."""
    need("g++", "cupy")
    pretended_cuda.install()
    import cupy

    return cupy


@pytest.fixture(params=["lazy", "eager", 7, 8])
def device(request, cupy):
    """The device, empty, in each order; ``device.order`` is the name of it."""
    device = pretended_cuda.install(order=request.param)
    device.reset()
    device.order = request.param
    yield device
    device.reset()
    device.set(order="lazy", check=False)
