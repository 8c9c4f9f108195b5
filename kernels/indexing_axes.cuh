// SPDX-License-Identifier: GPL-3.0-or-later
// Records of the search for vectors of a lattice without a cell.
//
// Twin: gpuidx/backends/cpu/unknown_vectors.py, the definition.  A *list* is the peaks of a frame that one try looks
// at, number frame * n_try + try; a *slot* is a list with one kind of vectors, number 2 * list + kind.  Axes of a
// list have lengths in bands, of which there are `most_bands` places for every slot.
//
// Set when they are compiled, besides what indexing.cuh names: every number in
// gpuidx/backends/unknown_cell_constants.py by its name.
#pragma once
#include "indexing.cuh"

// The peaks of a list, and which axes are looked for; 4-byte members only, as in all records.
struct PeakSet {
    int n_peak, n_band;
    float shortest, longest;              // axis; angstrom
    float farthest;                       // peak; 1/angstrom
};
static_assert(sizeof(PeakSet) == PEAK_SET_BYTES, "trial_tables.PEAK_SET");

// Vectors of a band, and how lengths and directions are sampled.
struct Band {
    int n_vector;                         // 0: too few; TOO_LONG: the CPU's
    int level, n_length;
    float shortest, longest;              // axis; angstrom
};
static_assert(sizeof(Band) == BAND_BYTES, "trial_tables.BAND_RECORD");

#define TOO_LONG -1
