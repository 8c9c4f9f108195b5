# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an ASAP::O server, made for its real client library; `server.StandIn` is the whole."""
