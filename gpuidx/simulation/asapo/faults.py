# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: what goes wrong with a server's answers, and which ones.

A fault is before or behind its request.  Before: the request is not carried out.  Behind: it is, so a counter
has moved or an acknowledgement is kept, and then the answer goes wrong; this is the harder case for a client.
"""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

from gpuidx.errors import OptionError
from gpuidx.simulation.asapo.protocol import OPERATIONS


class Kind(StrEnum):
    """What goes wrong."""

    DROP = "drop"
    """Before: the connection is closed."""
    STATUS = "status"
    """Before: `Fault.status` is answered; by the data server, an internal error."""
    LOSE = "lose"
    """Behind: the connection is closed without an answer."""
    HANG = "hang"
    """Behind: silence on an open connection, until the server ends."""
    CUT = "cut"
    """Behind: half of the answer, then the connection is closed."""
    STALL = "stall"
    """Behind: half of the answer, then silence."""
    SLOW = "slow"
    """Behind: the answer comes `Fault.seconds` late."""
    CLOSE = "close"
    """Behind: the whole answer, then the connection is closed unannounced, as idle ones are."""
    GARBAGE = "garbage"
    """Behind: not JSON; from the data server, bytes that are no answer."""
    BAD_TEXT = "bad-text"
    """Behind: invalid UTF-8 in a text."""
    BAD_TYPES = "bad-types"
    """Behind: texts where numbers belong, and the other way round."""
    EVICT = "evict"
    """Behind, data server only: the payload is no longer there."""


BEFORE = frozenset({Kind.DROP, Kind.STATUS})

UNNAMED = frozenset({"next", "last", "groupedlast"})
"""Operations whose message is known only when they are carried out."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault and the requests that it strikes.

    Attributes
    ----------
    kind
        What goes wrong.
    on
        Operations, of `OPERATIONS`; empty: all.
    ids
        Messages; empty: all.
    skip
        Requests of these operations and messages that are spared first.
    count
        How often it strikes at most; 0: no limit.
    probability
        Of each request that is left.
    seed
        The n-th such request has the same fate in each run.
    seconds
        How late a slow answer is.
    status
        HTTP status: 401, 404, 500, 503 ...

    Raises
    ------
    OptionError
        If these do not fit together.
    """

    kind: Kind
    on: frozenset[str] = frozenset()
    ids: frozenset[int] = frozenset()
    skip: int = 0
    count: int = 0
    probability: float = 1.0
    seed: int = 0
    seconds: float = 1.0
    status: int = 503

    def __post_init__(self) -> None:
        unknown = sorted(self.on.difference(OPERATIONS))
        if unknown:
            raise OptionError(
                f"fault {self.kind}: no operation {unknown[0]}; there are {', '.join(OPERATIONS)}"
            )
        if self.kind in BEFORE and self.ids and (not self.on or self.on & UNNAMED):
            raise OptionError(
                f"fault {self.kind}: which message 'next' gives is not known before; give no ids"
            )
        if not 200 <= self.status <= 599:
            raise OptionError(f"fault {self.kind}: status is {self.status}; it is from 200 to 599")
        if self.kind == Kind.EVICT and self.on != {"data"}:
            raise OptionError("fault evict: only on=data")
        if not 0 <= self.probability <= 1 or min(self.skip, self.count, self.seconds) < 0:
            raise OptionError(
                f"fault {self.kind}: probability is from 0 to 1, other numbers are not negative"
            )


def parse_fault(text: str) -> Fault:
    """A fault from ``KIND[,NAME=VALUE]...``; several operations or ids are joined by ``+``.

    Raises
    ------
    OptionError
        Naming what is not understood.
    """
    kind, *settings = text.split(",")
    types = {field.name: field.type for field in fields(Fault)}
    values: dict[str, object] = {}
    try:
        for setting in settings:
            name, _, value = setting.partition("=")
            if name == "on":
                values[name] = frozenset(value.split("+"))
            elif name == "ids":
                values[name] = frozenset(int(number) for number in value.split("+"))
            else:
                values[name] = {int: int, float: float}[types[name]](value)  # type: ignore[index]
        return Fault(kind=Kind(kind), **values)  # type: ignore[arg-type]
    except (KeyError, ValueError) as error:
        kinds, names = ", ".join(Kind), ", ".join(name for name in types if name != "kind")
        raise OptionError(
            f"fault {text!r} is not understood; it is KIND,NAME=VALUE,... with a kind of {kinds}"
            f" and names of {names}"
        ) from error


class _Plan:
    """A fault, and how far it is."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        # Faults with one seed must not strike in step.
        self._random = random.Random(f"{fault.seed} {fault.kind} {sorted(fault.on)}")
        self._seen = self._struck = 0

    def strikes(self, operation: str, message_id: int | None) -> bool:
        fault = self.fault
        if (fault.on and operation not in fault.on) or (fault.ids and message_id not in fault.ids):
            return False
        self._seen += 1
        # A number is drawn for each request, so that the n-th has the same one whatever came of the others.
        drawn = self._random.random() < fault.probability
        if not drawn or self._seen <= fault.skip or (fault.count and self._struck >= fault.count):
            return False
        self._struck += 1
        return True


class Faults:
    """The faults of a server; they may be changed while it runs.

    Attributes
    ----------
    struck
        How often what happened: number by (kind, operation).
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._plans = [_Plan(fault) for fault in faults]
        self._lock = threading.Lock()
        self.struck: Counter[tuple[Kind, str]] = Counter()

    def add(self, *faults: Fault) -> None:
        """Let further faults happen."""
        with self._lock:
            self._plans += [_Plan(fault) for fault in faults]

    def clear(self) -> None:
        """Let nothing go wrong from now on."""
        with self._lock:
            self._plans = []

    def before(self, operation: str, message_id: int | None) -> Fault | None:
        """The fault that keeps a request from being carried out."""
        return self._strike(operation, message_id, is_before=True)

    def behind(self, operation: str, message_id: int | None) -> Fault | None:
        """The fault of an answer."""
        return self._strike(operation, message_id, is_before=False)

    def _strike(self, operation: str, message_id: int | None, *, is_before: bool) -> Fault | None:
        with self._lock:
            for plan in self._plans:
                if (plan.fault.kind in BEFORE) == is_before and plan.strikes(operation, message_id):
                    self.struck[plan.fault.kind, operation] += 1
                    return plan.fault
        return None
