# SPDX-License-Identifier: GPL-3.0-or-later
"""Where messages come from; `open_source` chooses by the options."""

from gpuidx.options import InputOptions
from gpuidx.sources.contract import Source, Taken
from gpuidx.sources.files import Files
from gpuidx.sources.request import Request
from gpuidx.sources.subscribe import Subscribe

__all__ = ["Source", "Taken", "open_source"]


def open_source(options: InputOptions) -> Source:
    """The source that the options name; nothing is opened before `Source.open`.

    Raises
    ------
    OptionError
        If the address is none that a socket could connect to.
    """
    if options.zmq_input is None:
        assert options.input is not None
        return Files(options.input, options.geometry)
    if options.zmq_request is None:
        return Subscribe(options.zmq_input, options.zmq_subscribe, options.image_data)
    return Request(options.zmq_input, options.zmq_request, options.zmq_requests, options.zmq_timeout)
