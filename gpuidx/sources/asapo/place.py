# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a stream is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a program that asks one question does without
    from gpuidx.options import SourceOptions

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

    @classmethod
    def of(cls, options: SourceOptions) -> Where:
        """Where the options of a run say; they must name an endpoint."""
        return cls(
            endpoint=options.asapo_endpoint or "",
            beamtime=options.asapo_beamtime or "",
            source=options.asapo_source or "",
            group=options.asapo_group or "",
            timeout=options.asapo_consumer_timeout,
            acks=options.asapo_acks,
            resend=round(1e3 * options.asapo_resend_after),
        )
