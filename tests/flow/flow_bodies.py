# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of children for the tests of this folder; children import them by name."""


def echo(port):
    for serial, *values in port.tasks():
        port.answer(serial, *values)
