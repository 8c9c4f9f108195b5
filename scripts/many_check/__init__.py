# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of check-many and check-slurm: many gpuidx on one source."""
