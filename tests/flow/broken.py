# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that cannot be loaded, and not for want of another."""

1 / 0  # noqa: B018
