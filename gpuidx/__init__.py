# SPDX-License-Identifier: GPL-3.0-or-later
"""Real-time processing of serial crystallography data."""

__all__ = ["__version__"]
__version__ = "0.1.0"
