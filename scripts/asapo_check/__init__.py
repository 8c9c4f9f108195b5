# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading from ASAP::O under all that can go wrong: the real client library against the stand-in server."""
