# SPDX-License-Identifier: GPL-3.0-or-later
"""ASAP::O, DESY's data streaming service, as a source.

`source` is main's side; `reader` runs in processes of its own, which alone load the client library
(`client`): one of its calls may never return.  Nothing is imported here, as in the package above.
"""
