# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate defects of the kernels of the trials, and what `trial_proof.findings` must have for each."""

from backends.kernel_mutants import KernelMutant

TRIAL_MUTANTS = (
    KernelMutant(
        "the reversed anchor is not tried",
        "axes_about(directions[slot * N_DIRECTIONS + direction], blockIdx.x % n_sign)",
        "axes_about(directions[slot * N_DIRECTIONS + direction], false)",
        "lattices or number or attempts",
    ),
    KernelMutant(
        "no barrier between the scores of angles and the search for the highest",
        "        if (other < n_angle) scores[other] = score_other;\n    }\n    __syncthreads();\n",
        "        if (other < n_angle) scores[other] = score_other;\n    }\n",
        "race", check=True,
    ),
    KernelMutant(
        "the shift is not fitted",
        "            shift_weight = __fmul_rn(shift_ratio, shift_ratio);\n",
        "",
        "lattices",
    ),
    KernelMutant(
        "the vectors are staged without a barrier before they are added",
        "            own[11] = m.d[2];\n        }\n        __syncwarp(ALL_LANES);\n",
        "            own[11] = m.d[2];\n        }\n",
        "race", check=True,
    ),
    KernelMutant(
        "one vector of 32 is not added",
        "const int count = min(n - first, WARP);",
        "const int count = min(n - first, WARP - 1);",
        "lattices",
    ),
    KernelMutant(
        "a turn the wrong way",
        "const double p = y * c - z * b, q = z * a - x * c, r = x * b - y * a;",
        "const double p = z * b - y * c, q = x * c - z * a, r = y * a - x * b;",
        "lattices or number",
    ),
    KernelMutant(
        "the prior on the strain is left out",
        "            M[element] += a == b ? weight : 0.5 * weight;\n",
        "            M[element] += 0.0;\n",
        "lattices or number",
    ),
    KernelMutant(
        "the score knows two widths only",
        "float score = likelihood<N_SCORE_SIGMAS>",
        "float score = likelihood<N_COARSE_SIGMAS>",
        "lattices",
    ),
    KernelMutant(
        "twins are not dropped",
        "        left &= ~twins[count];\n",
        "",
        "chosen",
    ),
    KernelMutant(
        "rows stay in the order of the attempt",
        "lattice.V[(tid / 3 + task.anchor) % 3 * 3 + tid % 3] = from->V[tid];",
        "lattice.V[tid] = from->V[tid];",
        "lattices",
    ),
    KernelMutant(
        "collinear peaks are a lattice",
        "*enough = __syncthreads_or(off);",
        "*enough = true;",
        "number or tries",
    ),
    KernelMutant(
        "an axis along the beam counts",
        "if (enough && n_axes < 3)",
        "if (enough && n_axes < 0)",
        "lattices",
    ),
    KernelMutant(
        "two attempts that agree do not end a trial",
        "            over = over || same;\n",
        "",
        "attempts",
    ),
    KernelMutant(
        "a strong lattice does not end a trial",
        "n_indexed > 0 && score > STRONG_SCORE",
        "n_indexed < 0 && score > STRONG_SCORE",
        "attempts",
    ),
    KernelMutant(
        "explained peaks stay",
        "            if (!stays) excluded[i] = 1;\n",
        "",
        "number or lattices or tries",
    ),
    KernelMutant(
        "the weakest peaks stay",
        "        used -= used / RETRY_SHARE;\n",
        "",
        "tries or number or lattices"
    ),
)  # fmt: skip
