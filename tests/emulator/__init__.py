# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA without a GPU: kernels on the CPU, a pretended device for CuPy, NVIDIA's compiler as a check."""
