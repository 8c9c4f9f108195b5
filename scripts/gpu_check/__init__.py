# SPDX-License-Identifier: GPL-3.0-or-later
"""Check gpuidx on a real GPU and measure it; the parts of ``scripts/gpu-check``.  See docs/gpu.md.

`needs` and `__main__` import nothing but the standard library until all that is needed has been found.
"""
