# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a stream is."""

from dataclasses import dataclass

NO_SUCCESSOR = "asapo_no_next"
"""What stands for the next stream of one that has none."""


STEP = "gpuidx"
"""What the service's own displays call a program like this."""


@dataclass(frozen=True, slots=True)
class Where:
    """A source of messages and our place in it.

    Attributes
    ----------
    endpoint
        ``HOST:PORT`` of the service.
    beamtime, source
        What was measured, and by which device ("data source").
    group
        Readers that share the messages of a stream among them; the service remembers how far each group is.
    timeout
        ms that a request waits for data.
    acks
        Whether the service is told of each message that is done, and gives others again.
    resend
        ms after which a message that is not acknowledged comes again.
    """

    endpoint: str
    beamtime: str
    source: str
    group: str
    timeout: int = 500
    acks: bool = False
    resend: int = 60000
