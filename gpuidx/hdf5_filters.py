# SPDX-License-Identifier: GPL-3.0-or-later
"""Import this for the filters of HDF5 that frames are compressed with; hdf5plugin has them.

They are taken even where ``HDF5_PLUGIN_PATH`` names others, as for CrystFEL: those may be made for another
HDF5 than that of h5py, and then every compressed data set is an error.
"""

import hdf5plugin

hdf5plugin.register(force=True)
