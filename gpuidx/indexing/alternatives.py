# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells that nearly have more symmetry than they have: which way round is the lattice.

A turn that carries the target's lattice almost into itself (50.2 and 50.9 Å with 90.4° between them)
gives another setting that fits almost as well.  Each is refined with the cell held tightly to the target;
the one that explains the peaks best is taken.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.ewald import excitation_error, shifted_back, spot_on_panel
from gpuidx.indexing.cell_check import TargetCell
from gpuidx.indexing.normal_equations import INDEX_TOLERANCE, Spots, scattering_vector
from gpuidx.indexing.pairing import index_peak, lattice_point
from gpuidx.indexing.refinement import refine
from gpuidx.indexing.state import State, reciprocal_axes, start
from gpuidx.indexing.strain import Constraint
from gpuidx.jit import jit
from gpuidx.lattice import rotations
from gpuidx.smallmath import inv3

EXACT, PSEUDO = 1e-3, 0.05
"""Tolerances of true symmetry and of what looks like it."""

STRAIN_SIGMA = 0.003
POSITION_SIGMA = 0.5  # px
ERROR_SIGMA = 0.0005  # Å⁻¹
WORST = 16.0
"""The most that one peak adds to the misfit."""


def pseudo_symmetric_turns(target: TargetCell) -> NDArray[np.float64]:
    """Matrices that lead from a setting of the target to others that fit almost as well, (turn, 3, 3).

    The first is the identity.  Of settings that true symmetry makes equivalent there is one.
    """
    exact, pseudo = rotations(target.reduced, EXACT), rotations(target.reduced, PSEUDO)
    chosen = [np.eye(3, dtype=np.int64)]
    for M in pseudo:
        if not any(np.array_equal(M, E @ other) for other in chosen for E in exact):
            chosen.append(M)
    K = target.to_conventional
    turns: NDArray[np.float64] = K @ np.array(chosen) @ np.linalg.inv(K)
    return turns


def best_setting(
    turns: NDArray[np.float64],
    axes: NDArray[np.float64],
    constraint: Constraint,
    spots: Spots,
    fit_shift: bool,
) -> NDArray[np.float64]:
    """The setting of a lattice that explains the peaks best.

    Parameters
    ----------
    turns
        As `pseudo_symmetric_turns` gives them.
    axes : (3, xyz)
        One setting, Å.
    constraint, spots, fit_shift
        For the refinement of each.
    """
    best, lowest = axes, math.inf
    for turn in turns:
        turned = turn @ axes
        state = start(turned, constraint.axes, constraint.strains)
        state.strain[:] = 0.0
        refine(spots, constraint.recip, constraint.strains, state, fit_shift, STRAIN_SIGMA)
        found = misfit(spots, reciprocal_axes(state, constraint.recip, constraint.strains), state)
        if found < lowest:
            best, lowest = turned, found
    return best


@jit
def misfit(spots: Spots, recip: NDArray[np.float64], state: State) -> float:
    """Squared distances of all peaks from a lattice in units of their sigmas, and of the cell's strains."""
    ray, panel, pixels, wavenumber = spots.ray, spots.panel, spots.pixels, spots.wavenumber
    position_fs, position_ss = spots.fs, spots.ss
    offset = np.outer(pixels, state.shift)
    back, axes = shifted_back(spots.back, offset), inv3(recip).T
    hkl, q = np.empty(3), np.empty(3)
    total = 0.0
    for i in range(len(ray)):
        p = panel[i]
        scattering_vector(ray[i], offset[p, 0], offset[p, 1], wavenumber, q)
        if not index_peak(axes, q, hkl) <= INDEX_TOLERANCE:
            total += WORST
            continue
        x, y, z = lattice_point(recip, hkl)
        _, fs, ss = spot_on_panel(back[p], x, y, z + wavenumber)
        square = (fs - position_fs[i]) ** 2 + (ss - position_ss[i]) ** 2
        error = excitation_error(x, y, z, wavenumber)
        total += min(square / POSITION_SIGMA**2 + (error / ERROR_SIGMA) ** 2, WORST)
    for strain in state.strain:
        total += (strain / STRAIN_SIGMA) ** 2
    return total
