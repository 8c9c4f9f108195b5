# SPDX-License-Identifier: GPL-3.0-or-later
"""Constants of the indexing trials without a cell, the same for every backend.

Those that they share with the trials for a known cell are in `gpuidx.backends.constants`.  The numbers were
chosen on simulated stills with known truth.
"""

MOST_PEAKS_UNKNOWN = 512
"""Peaks of a frame in use, the strongest: enough for any cell, and thousands would take seconds."""

BAND = 1.25
"""Lengths are searched in bands, each this much longer at its end than at its beginning."""

BAND_LEVEL = (2, 0)
"""Level of `SCAN_CYCLES` whose vectors a band takes; direct, pairs."""

BAND_NEED, BAND_MOST = (32, 48), 384
"""Vectors that a band takes at least, if there are any longer ones, and at most; direct, pairs."""

BAND_FEWEST = 6

LENGTH_SAMPLED, BAND_SAMPLED = 60, 120
"""Vectors that are refined: the best of each length, and of these the best of each band."""

VECTOR_TOLERANCE, VECTOR_LAST_TOLERANCE = 0.25, (0.20, 0.15)
VECTOR_RANGE, VECTOR_GROWTH = 12.0, 1.6
VECTOR_RIDGE, VECTOR_STEP = 1e-3, 0.05
"""Least squares of a vector: tolerances of d while it grows and in the end, first range in cycles and its
growth, ridge relative to the trace, longest step relative to the length."""

VECTOR_BEYOND = 1.05
"""Refined vectors may leave the range of lengths by this factor."""

VECTOR_SIGMAS = (0.10, 0.05)
"""Widths of the Gaussian in the score of a vector; each is half of the one before, which the code uses."""

VECTOR_LEAST = 6.0
"""Least score of a vector."""

SAME_VECTOR = 0.06
"""Vectors that differ by less than this share of their length are one."""

MOST_VECTORS = 36

FLATTEST = 0.17
"""Least sine between two vectors, and between their plane and the third, of a triple."""

N_TRIPLES = 12
"""Triples whose cell is fitted."""

FREE_TOLERANCE = (0.30, 0.25, 0.20, 0.15)
"""Of |d|, in the rounds of the fit of a free cell."""

NEARLY_BEST = 0.85
"""Of the cells that reach this share of the best score the smallest is taken."""

PRIMES = (2, 3, 5, 7)
SUPERLATTICE_TOLERANCE, SUPERLATTICE_SHARE, SUPERLATTICE_PEAKS = 0.15, 0.8, 8
"""A cell is too large if this share of the peaks that have all |d| within the tolerance, of at least so many,
lies on a sublattice of an index that is one of the primes, and if that is not by chance, for few peaks."""

SUPERLATTICE_CHANCE = 1e-3
"""Greatest probability that as many peaks lie on any sublattice of that index by chance."""

MOST_DIVISIONS = 8
"""How often a cell may be found too large; no true start is off by so much."""

ENOUGH_PER_PEAK = 2.5
"""Score per peak with direct vectors that makes pairs needless."""

ACCEPT_UNKNOWN, CHANCE_OF_VOLUME = 33.0, 3.0
"""Least score above `CHANCE_OF_VOLUME` ln(V q³), for a cell of volume V and the longest peak q: without a
cell there are many ways for chance to fit, the number of different axes of a length L being as (L q)³.
Random lists reached 22 in 1650 trials."""

LONGEST_AXIS = 400.0
"""Å; unless the user says."""

SHORTEST_AXIS = 3.0
FEWEST_CYCLES = 1.0
"""The shortest axis looked for, unless the user says, has so many cycles along the beam over all peaks, for
a shorter one explains any peaks when it lies along the beam; in any case so many Å."""

RETRY_SHARE_UNKNOWN, MOST_TRIES_UNKNOWN = 3, 2
"""Repetitions: without the weakest third, once; a trial without a cell takes a hundred times as long."""
