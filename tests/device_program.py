# SPDX-License-Identifier: GPL-3.0-or-later
"""gpuidx with device processes that need no device: ``python device_program.py BODY N WORD ...``.

BODY is a function of `device_bodies`, N the number of processes; the words are gpuidx's own.
"""

import sys

import gpuidx.device_pool
import gpuidx.run
from gpuidx.cli import main
from gpuidx.selection import Choice


def choose(n_device):
    return lambda options: Choice("cuda", f"backend: {n_device} made up", tuple(range(n_device)))


if __name__ == "__main__":
    body, n_device = sys.argv[1], int(sys.argv[2])
    gpuidx.device_pool.BODY = f"device_bodies:{body}"
    gpuidx.run.decide = choose(n_device)
    sys.exit(main(sys.argv[3:]))
