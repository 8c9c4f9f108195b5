# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status line says of the devices."""

import pytest

from gpuidx.status import DeviceUse


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (DeviceUse(1.0, 0.97, 0.02), "batches 100% full; device works 97% of the time"),
        (DeviceUse(0.5, 0.4, 0.05), "batches 50% full; device works 40% of the time, waits for frames 55%"),
        (
            DeviceUse(0.1, 0.2, 0.6),
            "batches 10% full; device works 20% of the time, waits for batches to fill 60%",
        ),
    ],
)
def test_the_status_line_names_what_devices_wait_for_most(use, text):
    assert use.text() == text
