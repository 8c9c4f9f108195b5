# SPDX-License-Identifier: GPL-3.0-or-later
"""The array work on CUDA devices, by CuPy as the way to raw kernels.

No module here imports CuPy at its top: main and runs on the CPU import `detect`.
"""
