# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged messages for every decoder; `scripts/fuzz-formats` runs them."""
