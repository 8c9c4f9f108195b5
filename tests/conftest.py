# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the folder of reference data, and how long hypothesis may take."""

import os

import emulator
import pytest
from hypothesis import HealthCheck, settings

# Times say nothing on a machine that does other things as well.
settings.register_profile("gpuidx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gpuidx")

LONGEST = (
    "test_cuda_compiles", "test_cuda_trials_data", "test_gpu_check", "test_peakfinder8_data", "test_run_cuda",
    "test_run_device", "test_cuda_trials", "test_cuda_trial_mutants", "test_run", "test_unknown_cell",
)  # fmt: skip
"""Modules that come first: a process that meets them last leaves the others without work."""


@pytest.fixture(scope="session")
def data_folder(pytestconfig):
    """Path of the reference data beside the project; a test that asks for it is marked ``data``."""
    folder = pytestconfig.rootpath.parent / "shared" / "data"
    if not folder.is_dir():
        reason = "reference data folder not beside the project"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def needs_cupy():
    """Without CuPy the test is skipped; with CI=true it fails."""
    emulator.need("cupy")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "data_folder" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
