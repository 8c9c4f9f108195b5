# SPDX-License-Identifier: GPL-3.0-or-later
"""Where messages come from; `open_source` chooses by the options."""

from gpuidx.options import InputOptions, LinkOptions
from gpuidx.sources.contract import LiveSource, Source, Taken
from gpuidx.sources.files import Files
from gpuidx.sources.request import Request
from gpuidx.sources.unasked import Unasked
from gpuidx.sources.wiring import read_wiring

__all__ = ["LiveSource", "Source", "Taken", "open_links", "open_source"]


def open_source(options: InputOptions) -> Source:
    """The source that the options name; nothing is opened before `Source.open`.

    Raises
    ------
    OptionError
        If an address is none that a socket could be attached to, or a key file is none.
    """
    if not options.zmq_input:
        assert options.input is not None
        return Files(options.input, options.geometry)
    return open_links(options)


def open_links(options: LinkOptions) -> LiveSource:
    """The source for the senders that the options name; nothing is opened before `Source.open`.

    Raises
    ------
    OptionError
        If an address is none that a socket could be attached to, or a key file is none.
    """
    addresses = options.zmq_input
    wiring = read_wiring(options.zmq_bind, options.zmq_own_key, options.zmq_server_key)
    if options.zmq_request is not None:
        return Request(addresses, options.zmq_request, options.zmq_requests, options.zmq_timeout, wiring)
    tags = None if options.zmq_pull else options.zmq_subscribe
    return Unasked(addresses, options.image_data, tags, wiring)
