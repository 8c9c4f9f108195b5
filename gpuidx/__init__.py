# SPDX-License-Identifier: GPL-3.0-or-later
"""Real-time processing of serial crystallography data."""

from importlib.metadata import version

__all__ = ["__version__"]
__version__ = version("gpuidx")
