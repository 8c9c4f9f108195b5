# SPDX-License-Identifier: GPL-3.0-or-later
"""`open_source` chooses by the options where messages come from."""

from gpuidx.options import SourceOptions
from gpuidx.secret import Secret
from gpuidx.sources.asapo.place import Where
from gpuidx.sources.asapo.questions import STREAMS, ask
from gpuidx.sources.asapo.source import Asapo
from gpuidx.sources.contract import Source
from gpuidx.sources.files import Files
from gpuidx.sources.listing import naming
from gpuidx.sources.receivers import Receivers, open_links

PATIENCE = 60.0
"""s without data after which ASAP::O's streams count as ended, unless the user says: as indexamajig's."""


def open_source(options: SourceOptions) -> Source:
    """The source that the options name; nothing is opened before `Source.open`.

    Raises
    ------
    OptionError
        If an address is none that a socket could be attached to, or a key file is none.
    """
    if options.asapo_endpoint is not None:
        return _asapo(options)
    if not options.zmq_input:
        assert options.input is not None
        names = naming(options.prefix, options.basename, options.check_prefix)
        return Files(options.input, options.geometry, names, options.wait_for_file)
    return Receivers(options) if options.zmq_receivers else open_links(options)


def streams_of(options: SourceOptions) -> tuple[tuple[str, int], ...]:
    """The streams of the ASAP::O source that the options name, and how many messages are in each.

    Raises
    ------
    ServiceError
        If the service does not say.
    """
    found = ask(Where.of(options), options.asapo_token or Secret(""), STREAMS)["streams"]
    return tuple((str(stream["name"]), int(stream["lastId"])) for stream in found)


def _asapo(options: SourceOptions) -> Asapo:
    return Asapo(
        Where.of(options),
        options.asapo_token or Secret(""),
        options.asapo_stream or "",
        patience=PATIENCE if options.no_data_timeout is None else options.no_data_timeout,
        wait_for_stream=options.asapo_wait_for_stream,
        follow=options.asapo_follow,
        readers=options.asapo_readers,
    )
