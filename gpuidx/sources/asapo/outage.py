# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that does not answer: said once, waited for, and in the end the end of the run."""

import logging
import time

from gpuidx.errors import SourceError

log = logging.getLogger(__name__)

HICCUP = 1.0
"""s; what is over by then is only counted."""

REFUSAL_LIMIT = 10.0
"""s; who refuses us for so long means it."""


class Outage:
    """Keeps count of how long the service has not answered.

    Parameters
    ----------
    endpoint
        Its address.
    limit
        s until the run ends.

    Attributes
    ----------
    count
        Requests that failed.
    """

    def __init__(self, endpoint: str, limit: float) -> None:
        self._endpoint, self._limit = endpoint, limit
        self.count = 0
        self._told = False
        self._since: float | None = None
        self._why = ""
        self._refused_since: float | None = None

    def note(self, why: str, is_refusal: bool = False) -> None:
        """A request failed."""
        now = time.monotonic()
        self.count += 1
        self._since, self._why = self._since or now, why
        self._refused_since = (self._refused_since or now) if is_refusal else None

    def over(self) -> None:
        """A request was answered."""
        if self._told and self._since is not None:
            log.info(
                "ASAP::O at %s answers again, after %.1f s", self._endpoint, time.monotonic() - self._since
            )
        self._told = False
        self._since = self._refused_since = None

    def check(self) -> None:
        """See whether it is still worth waiting.

        Raises
        ------
        SourceError
            If not.
        """
        now = time.monotonic()
        if self._since is not None and not self._told and now - self._since > HICCUP:
            self._told = True
            log.warning("ASAP::O at %s: %s; trying again", self._endpoint, self._why)
        if self._refused_since is not None and now - self._refused_since > REFUSAL_LIMIT:
            raise SourceError(f"ASAP::O at {self._endpoint} refuses us: {self._why}")
        if self._since is not None and now - self._since > self._limit:
            raise SourceError(
                f"ASAP::O at {self._endpoint} does not answer for {self._limit:g} s: {self._why}"
            )
