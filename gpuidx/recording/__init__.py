# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw messages of live sources in a file: its layout, a writer, and the loop that records."""
