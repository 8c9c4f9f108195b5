# SPDX-License-Identifier: GPL-3.0-or-later
"""ASAP::O's client library behind four calls, each of which gives a value or raises one of our errors.

For readers and helpers alone, never for the main process: a call hangs for ever if the service accepts a
connection and stays silent, whatever its timeouts say, and text of the service that is no UTF-8 comes as an
exception of any kind.  Measured with asapo-consumer 25.3.0.
"""

import json
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import asapo_consumer as library

from gpuidx.secret import Secret
from gpuidx.sources.asapo.place import NO_SUCCESSOR, STEP, Where

ATTEMPTS = 1000
"""Times that the service gives a message again which nobody acknowledges: as often as it takes."""

TRIES = 4
"""For a payload: after each pause in the data the first try fails, for the data server has hung up."""

KNOWN = "already acknowledged"
"""What the service says of an acknowledgement that it had before; the library has no exception for it."""

MOST_FAILURES = 5
"""Times that a message is sent again whose data the service says it has not."""

PAUSE = 0.1
"""s between tries."""


class NothingYet(Exception):  # noqa: N818  (what a stream says, not a fault)
    """All messages of the stream so far were given out; `last` is the highest id, 0 of an empty stream."""

    def __init__(self, last: int) -> None:
        self.last = last
        super().__init__(f"nothing behind message {last}")


class Absent(NothingYet):
    """What was asked for by itself is not there; no answer to a question for the next message."""


class Finished(Exception):  # noqa: N818
    """The stream was ended by its sender; *successor* is the stream that comes next, or empty."""

    def __init__(self, last: int, successor: str) -> None:
        self.last, self.successor = last, successor
        super().__init__(f"finished after message {last}")


class TroubleError(Exception):
    """The service does not answer as it should; it may again."""


class DeniedError(TroubleError):
    """The service does not let us: token, beamtime or name of the source."""


class LostError(Exception):
    """The data of a message are gone, for everybody."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the service says of a message; the payload is fetched with it.

    Attributes
    ----------
    id
        In its stream, from 1.
    name
        Given by the sender, as a rule that of a file.
    size
        Bytes of the payload, as announced.
    headers
        JSON object with the sender's values, UTF-8.
    told
        All of it, for the library.
    """

    id: int
    name: str
    size: int
    headers: bytes
    told: dict[str, Any]


class Client:
    """A connection to one source as a member of one group; makes no request by itself.

    Raises
    ------
    DeniedError
        If the library refuses a parameter.
    """

    def __init__(self, where: Where, token: Secret) -> None:
        self.where = where
        self._failures: Counter[tuple[str, int]] = Counter()
        try:
            self._consumer = library.create_consumer(
                where.endpoint, "auto", False, where.beamtime, where.source, token.reveal(), where.timeout,
                "auto", STEP,
            )  # fmt: skip
            self._consumer.force_no_rdma()
            if where.acks:
                self._consumer.set_resend_nacs(True, where.resend, ATTEMPTS)
        except Exception as error:
            raise DeniedError(_text(error)) from error

    def size(self, stream: str) -> int:
        """Number of messages in *stream*, 0 if there is none of this name; fails at once if we may not read.

        Raises
        ------
        DeniedError, TroubleError
        """
        return int(self._ask("get_current_size", stream))

    def next(self, stream: str) -> Envelope:
        """The next message for the group; waits for the timeout if there is none.

        Raises
        ------
        NothingYet, Finished, DeniedError, TroubleError
        """
        try:
            _, told = self._ask("get_next", self.where.group, meta_only=True, stream=stream, ordered=False)
        except Absent as error:
            raise TroubleError(f"no sensible answer: {error}") from error
        return _envelope(told)

    def message(self, stream: str, number: int) -> Envelope:
        """A message by its id; the group stays where it is.

        Raises
        ------
        NothingYet, Finished, DeniedError, TroubleError
        """
        _, told = self._ask("get_by_id", number, meta_only=True, stream=stream)
        return _envelope(told)

    def payload(self, envelope: Envelope) -> memoryview:
        """The data of a message.

        Raises
        ------
        LostError
            If they were thrown away, or the data server cannot be reached and they are nowhere else.
        TroubleError
            If they cannot be had now.
        """
        failure: TroubleError | LostError | None = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            try:
                data = memoryview(self._ask("retrieve_data", dict(envelope.told))).cast("B")
            except (TroubleError, LostError) as error:  # the second also where a connection was lost
                failure = error
                continue
            if len(data) == envelope.size:
                return data
            failure = TroubleError(f"{len(data)} bytes of {envelope.size}")
        server = envelope.told.get("source", "")
        why = f"data of message {envelope.id} not available from {server}: {failure}"
        raise LostError(why) if isinstance(failure, LostError) else TroubleError(why)

    def acknowledge(self, stream: str, number: int) -> None:
        """Tell the service that a message is done; it is no error if it knows already.

        Raises
        ------
        DeniedError, TroubleError
        """
        try:
            self._ask("acknowledge", self.where.group, number, stream=stream)
        except DeniedError as error:
            if KNOWN not in str(error):
                raise

    def failed_before(self, stream: str, number: int) -> bool:
        """Whether the data of a message could not be had so often that they are gone for good; counts."""
        self._failures[stream, number] += 1
        return self._failures[stream, number] >= MOST_FAILURES

    def give_back(self, stream: str, number: int, delay: int) -> None:
        """Have a message sent again after *delay* ms; if this fails, after the usual time."""
        try:
            self._ask("neg_acknowledge", self.where.group, number, delay, stream=stream)
        except TroubleError:
            return

    def unacknowledged(self, stream: str) -> list[int]:
        """Messages that the group was given and nobody acknowledged.

        Raises
        ------
        DeniedError, TroubleError
        """
        found = self._ask("get_unacknowledged_messages", self.where.group, 0, 0, stream)
        return [int(number) for number in found]

    def status(self, stream: str) -> dict[str, Any]:
        """How far our group is in *stream*.

        Returns
        -------
        status
            ``size`` of the stream, ``last_acknowledged`` id (0: none) and the ``unacknowledged`` ones.

        Raises
        ------
        DeniedError, TroubleError
        """
        try:
            last = int(self._ask("get_last_acknowledged_message", self.where.group, stream))
        except NothingYet:
            last = 0
        left = self.unacknowledged(stream)
        return {"size": self.size(stream), "last_acknowledged": last, "unacknowledged": left}

    def reset(self, stream: str, last: int) -> None:
        """Have our group go on behind message *last*; 0 is the beginning.

        Raises
        ------
        DeniedError, TroubleError
        """
        self._ask("set_lastread_marker", self.where.group, last, stream)

    def streams(self) -> list[dict[str, Any]]:
        """Each stream of the source: ``name``, ``lastId``, ``finished``, ``nextStream`` and times in ns.

        Raises
        ------
        DeniedError, TroubleError
        """
        return [dict(stream) for stream in self._ask("get_stream_list", "", "all", detailed=False)]

    def _ask(self, call: str, *args: Any, **kwargs: Any) -> Any:
        """Call the library; anything that it raises becomes one of our errors."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of calls that have no successor
                return getattr(self._consumer, call)(*args, **kwargs)
        except library.AsapoStreamFinishedError as error:
            after = str(getattr(error, "next_stream", "") or "")
            raise Finished(int(error.id_max), "" if after == NO_SUCCESSOR else after) from error
        except library.AsapoNoDataError as error:
            raise Absent(0) from error
        except library.AsapoEndOfStreamError as error:
            raise NothingYet(int(error.id_max)) from error
        except library.AsapoDataNotInCacheError as error:
            raise LostError(_text(error)) from error
        except (library.AsapoWrongInputError, library.AsapoUnsupportedClientError) as error:
            raise DeniedError(_text(error)) from error
        except Exception as error:
            raise TroubleError(_text(error)) from error


def _envelope(told: dict[str, Any]) -> Envelope:
    headers = json.dumps(told.get("meta") or {}).encode()
    return Envelope(int(told["_id"]), str(told["name"]), int(told["size"]), headers, told)


def _text(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
