# SPDX-License-Identifier: GPL-3.0-or-later
"""Constants of the indexing trials, and how many peaks a search gives, the same for every backend.

The search follows Gasparotto et al. (2024), J. Appl. Cryst. 57, 931 (TORO) and the fast-feedback-indexer in
its outline: sample directions, refine, turn.  The numbers were chosen on simulated stills with known truth:
12 cells, 10 to 180 peaks, wrong cells and geometries, bandwidth, spurious peaks.  "Cycles" are length in
reciprocal space times length of a real-space vector.
"""

MAX_PEAKS = 2048
"""Peaks kept per frame, the first ones in the order of the search."""

STEP = 0.30
"""Angle between neighbouring samples times the greatest number of cycles, rad."""

SCAN_CYCLES = (8, 12, 17, 24)
TURN_CYCLES = (10, 14, 20, 28, 40, 56, 80, 112)
"""Levels: greatest number of cycles of the vectors in use, which sets the sampling."""

SHORTEST = 0.35
"""Vectors of fewer cycles along the anchor say nothing about it."""

DIRECT, PAIRS = 0, 1
"""Kinds of vectors: the peaks themselves; differences of two peaks, and the peaks."""

ATTEMPTS = ((0, DIRECT), (0, PAIRS), (1, DIRECT), (1, PAIRS))
"""Anchor (row of the reduced cell) and kind of vectors of each attempt."""

FURTHER_ATTEMPTS = ATTEMPTS[:2]
"""Those for second and further lattices: nearly as good, at half the cost of a failure."""

RETRY_ATTEMPTS = ATTEMPTS[::2]
"""Those for repetitions with fewer peaks, which mend too many spurious ones: there direct vectors are better.

They rescue 86 % of what all four attempts do, for a quarter of the time."""

MOST_PEAKS = 4096
"""Peaks of a frame in use, the strongest: twice as many as a search gives, but supplied lists have no limit,
and the time for pairs grows with the square."""

PEAK_WEIGHT = 1.5
"""Weight of a peak among the pairs: its error is smaller than that of a difference."""

SCAN_NEED, SCAN_MOST = (64, 160), (192, 256)
TURN_NEED, TURN_MOST = (64, 192), (160, 192)
"""Vectors wanted (the lowest level that has them is taken) and used at most; direct, pairs."""

LONGEST_PEAK = 1000.0
"""Peaks at least as far from the origin are nonsense, Å⁻¹."""

FEWEST_VECTORS = 4

FEWEST_PEAKS = 6
"""With fewer no score can reach `ACCEPT`: a peak adds 7.1 at most."""

N_SAMPLED, N_DIRECTIONS, N_ORIENTATIONS, N_CELLS = 96, 20, 16, 6
"""Directions refined and kept, orientations refined, orientations whose cell is fitted."""

SCAN_CURVATURE, TURN_CURVATURE = 16.0, 9.0
"""Score of a vector: max(0, 1 - curvature d²), d its distance from an integer."""

TURN_LEAST = 0.2
"""Vectors that fit the anchor worse than this are left out of the turn."""

N_MAXIMA = 2
"""Angles of each direction and sign that are looked at further."""

DIRECTION_TOLERANCE = (0.25, 0.20, 0.20)
DIRECTION_RIDGE = 1e-4
DIRECTION_LENGTH_WEIGHT = 200.0
DIRECTION_STEP = 0.1
DIRECTION_STRETCH = 0.06
"""Least squares of a direction, in units of the anchor's length: tolerance of d in each round, ridge relative
to the trace, weight of the known length, longest step, greatest difference of the length at the end."""

INDEX_SIGMA = 0.05
"""Standard error of an index that goes with weight 1 in least squares."""

ORIENTATION_TOLERANCE, ORIENTATION_LAST_TOLERANCE = 0.35, 0.30
ORIENTATION_RIDGE = 1e-6
ORIENTATION_FEWEST = 3
ORIENTATION_STEP = 0.05
ORIENTATION_RANGE = (15.0, 0.7)
ORIENTATION_GROWTH = 1.7
"""Least squares of turn and shift: tolerances of |d|, ridge, fewest vectors, largest turn in rad; the
range of q begins at 15 / longest axis, with direct vectors at no less than 0.7 of the turn's cycles, and
grows by a factor."""

CELL_TOLERANCE = (0.30, 0.25, 0.20)
CELL_RIDGE = 1e-9
CELL_FEWEST = 4
CELL_WEIGHT = 400.0
CELL_GROW_TOLERANCE = 0.35
CELL_RANGE = 20.0
CELL_GROWTH = 1.6
"""Least squares of the free cell: tolerances, ridge, fewest peaks, weight of the strain; the
second variant begins with range 20 / longest axis."""

SCORE_SIGMAS = (0.12, 0.06, 0.03)
"""Widths of the Gaussian in the likelihood score; each is half of the one before, which the code uses."""

N_COARSE_SIGMAS = 2
"""The first so many are used for orientations, all for fitted cells."""

ACCEPT = 38.0
"""Least score: random lists reached 33 in 3360 trials."""

STRONG_SCORE, STRONG_QUALITY = 60.0, 4.2
"""An attempt with more than this score, and score per well-indexed peak, ends the trial of a frame."""

SAME_ANGLE, TWIN_ANGLE = 1.0, 0.2
"""Degrees below which two attempts have found the same lattice, and two orientations are the same."""

SAME_FRACTION = 0.25
"""Greatest distance from an integer of the elements of the matrix between two bases of one lattice."""

MISS_PENALTY = 0.69
"""What a peak that is not indexed takes from the score (ln 2), given back in the quality."""

INDEXED = 0.2
"""A peak is well indexed if each of its three indices is this close to an integer."""

MOST_STRETCH = 1.5
"""Factor by which a fitted axis may be longer or shorter than the nominal one.  Peaks on one line leave two
axes free, which then grow until every index is an integer for want of digits."""

FEWEST_REFLECTIONS = 4
OFF_LINE = 0.5
"""Different reflections that there must be among the well-indexed peaks, and how far one of them must lie
from the line through two others, in units of the indices: equal or collinear peaks fit any lattice."""

AWAY_SHARE = 10
"""An axis counts for the score if at least one in so many reflections has another index than 0 along it.  On
a flat Ewald sphere (electrons, or low resolution) an axis along the beam gives every peak the index 0,
whatever the peaks: that is evidence of nothing."""

PSEUDO_TOLERANCE = 0.02
"""Tolerance of the lattice rotations that shorten the search."""

MOST_LATTICES, FEWEST_PEAKS_LEFT = 6, 8
SUBTRACT_FACTOR, SUBTRACT_LEAST, SUBTRACT_MOST = 4.0, 0.06, 0.25
"""Several lattices: peaks within 4 × the median |d|, but between these limits, belong to the one found."""

MOST_TRIES, FEWEST_PEAKS_RETRY, RETRY_SHARE = 6, 6, 10
"""Repetitions as in CrystFEL 0.12: at most so many tries, with at least so many peaks, each without the
weakest tenth of those before."""

SHIFT_SIGMA = 1.5
"""Expected error of the beam centre, px."""

PACKED_BLOCK = 8192
"""Bytes that a block of compressed pixels makes at most if a device decodes it, in its fast memory: what
bitshuffle takes by itself."""

PACKED_PIXEL = 1
"""Bytes a pixel that compressed pixels have at most if a device decodes them; it keeps so much room."""
