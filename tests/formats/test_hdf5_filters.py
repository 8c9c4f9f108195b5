# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of HDF5 are those of hdf5plugin, whatever else is there."""

import subprocess
import sys

PROGRAM = """
import hdf5plugin
asked = []
register = hdf5plugin.register
hdf5plugin.register = lambda *words, **named: asked.append(named) or register(*words, **named)
from gpuidx.simulation.compress import compress
import numpy
print(len(compress(numpy.zeros((8, 8), numpy.uint16), "bslz4")), asked)
"""


def test_filters_are_registered_even_where_the_environment_has_others():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "27 [{'force': True}]\n"
