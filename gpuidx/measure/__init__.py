# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring gpuidx on the machine it runs on.  Nothing a run needs."""
