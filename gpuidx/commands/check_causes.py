# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a step of ``gpuidx check`` gave nothing, and what to do; from what was found, and nothing else."""

from gpuidx.commands.check_record import (
    Arrival,
    Decoded,
    Free,
    HeaderRow,
    Indexed,
    Integrated,
    MaskShare,
    PeakSummary,
)
from gpuidx.sources.knock import Neighbour
from gpuidx.status import ALL_REFUSED, NO_PEAKS, NOT_INDEXED

SUITS = {"REQ": ("REP", "ROUTER"), "SUB": ("PUB", "XPUB"), "PULL": ("PUSH",)}
"""Sockets that each of ours can be connected to."""

OPTIONS = {"REQ": "--zmq-request=next", "SUB": "--zmq-subscribe=TAG", "PULL": "--zmq-pull"}

MOST_STREAMS = 5
"""Streams that are named."""

LONGEST_TAG = 40


def no_frame(a: Arrival) -> list[str]:
    """Why no frame came."""
    if a.refused is not None:
        return [f"messages come, but none is a frame: {a.refused[0]}: {a.refused[1]}"]
    if a.kind == "files":
        return ["the list names no file, or no frame in them"]
    if a.kind == "ASAP::O":
        return _empty_stream(a)
    if a.connected is not None:
        return _silent(a)
    if a.bound:
        return ["no sender has connected; it has to connect to an address of this machine, past its firewall"]
    return [f"{address}: {_absent(a, who)}" for address, who in a.neighbours]


def _empty_stream(a: Arrival) -> list[str]:
    if not a.streams:
        return ["the source has no stream yet, or its name (--asapo-source) is wrong"]
    known = ", ".join(f"'{name}' with {size} messages" for name, size in a.streams[:MOST_STREAMS])
    return [f"the stream has no messages; the source has {known}"]


def _silent(a: Arrival) -> list[str]:
    if a.kind == "REQ":
        return [
            "the server has not answered: it has no frame at this time (OM answers with its next hit), or "
            "does not know the request; OM wants --zmq-request=next"
        ]
    if a.kind == "PULL":
        return ["nothing is pushed at this time, or other readers of the same sender take it"]
    if a.heard is None:
        return ["nothing is published at this time, under any tag"]
    tag = a.heard[:LONGEST_TAG].split(b"\0")[0]
    if tag.isalnum():
        name = tag.decode()
        return [f"messages come under another tag, '{name}'; give --zmq-subscribe={name}"]
    return [f"messages come under another tag; they begin with {tag!r}; an empty --zmq-subscribe= takes all"]


def _absent(a: Arrival, who: Neighbour) -> str:
    """Why there is no connection to an address."""
    if "refused" in who.problem or "no such file" in who.problem:
        return f"nobody listens there ({who.problem}); is the server running, is the port right?"
    if who.problem:
        return f"cannot be reached ({who.problem}); is the host right, does a firewall stand between?"
    if not who.mechanism:
        return "something listens there that does not speak ZeroMQ; is the port right?"
    if who.mechanism == "CURVE" and not a.encrypted:
        return "the sender encrypts; give its public key with --zmq-server-key"
    if who.mechanism != "CURVE" and a.encrypted:
        return f"the sender does not encrypt (it says {who.mechanism}); leave out the keys"
    if who.mechanism == "CURVE":
        return "the sender refuses the connection; is --zmq-server-key its key, and does it know ours?"
    if not who.kind or who.kind in SUITS[a.kind]:
        return "a sender is there, but no connection was made in this time"
    fitting = [OPTIONS[ours] for ours, theirs in SUITS.items() if who.kind in theirs]
    advice = f"give {fitting[0]}" if fitting else "it is no sender; is the port right?"
    return f"its socket is {who.kind}, which does not suit {OPTIONS[a.kind]} ({a.kind}); {advice}"


def not_decoded(d: Decoded, headers: tuple[HeaderRow, ...]) -> list[str]:
    """Why bytes became no frame, if that is more than what the rejection says."""
    if d.rejected is None:
        return []
    if any(row.problem and row.needed for row in headers):
        return ["header values are missing, see there"]
    reason = d.rejected[0]
    if reason == "missing key":
        return ["'data' of the geometry names an array that messages do not have"]
    if reason == "wrong shape":
        return ["the geometry is that of another detector, or of another binning or assembly of it"]
    if reason == "no peak list":
        return ["messages have no peak list; search with --peaks=peakfinder8"]
    if reason == "file cannot be read":
        return ["names in the list are relative to the folder of the run, see --prefix; or a damaged file"]
    return ["another format than --data-format says, or a damaged message"]


def no_headers(rows: tuple[HeaderRow, ...]) -> list[str]:
    """Why header values are missing."""
    names = [f"'{row.name}'" for row in rows if row.problem and row.needed]
    return [f"the geometry asks for {', '.join(names)}; put the sender's name there"] if names else []


def all_masked(m: MaskShare) -> list[str]:
    """Why no pixel is left."""
    most = max(m.causes, key=lambda cause: cause[1], default=("", 0))[0]
    return [f"all pixels are bad, most by: {most}"]


def no_peaks(p: PeakSummary) -> list[str]:
    """Why there are no or too few peaks."""
    if p.method == "none":
        return ["--peaks=none: nothing is looked for"]
    causes = [f"{option} would give {n} peaks" for option, n in p.remedies]
    if p.n_sent is not None:
        if p.n_sent == 0:
            return ["the list that came with the frame is empty: a blank frame? take more with --frames=N"]
        return [f"of {p.n_sent} peaks that were sent {p.n_peak} passed the check", *causes]
    if p.highest is not None and p.threshold is not None and p.highest[0] <= p.threshold:
        causes.insert(0, f"no pixel is above --threshold={p.threshold:g}; the highest has {p.highest[0]:g}")
    if not causes and p.n_peak:
        causes.append(f"fewer than --min-peaks={p.least}; a blank frame? take more with --frames=N")
    return causes or [f"{NO_PEAKS}; or a blank frame: take more with --frames=N"]


def not_indexed(i: Indexed) -> list[str]:
    """Why there is no crystal."""
    if i.n_candidate:
        causes = [f"{options} would take it" for options in i.remedies]
        return [*causes, f"lattices are found, but refused by the checks: {ALL_REFUSED}"]
    if i.free is not None and i.free.better_clen is not None:
        return [_wrong_length(i.free, i.free.better_clen)]
    if i.free is None:
        return [NOT_INDEXED]
    if i.free.cell is None:
        return ["no lattice of any cell is found either", NOT_INDEXED]
    return ["a lattice of another cell is found; is -p the cell of this sample?", NOT_INDEXED]


def _wrong_length(free: Free, better_clen: float) -> str:
    """What follows from a frame that is indexed at another camera length."""
    clen, better, energy = 1e3 * free.clen, 1e3 * better_clen, free.photon_energy
    return (
        f"with a camera length of {better:.4g} mm instead of {clen:.4g} mm the frame is indexed with the "
        f"target cell; now axes come out {clen / better:.3g} times too long.  So clen is wrong, or the "
        f"photon energy ({energy * clen / better:.5g} eV instead of {energy:.5g} eV)"
    )


def no_reflections(i: Integrated) -> list[str]:
    """Why nothing was integrated."""
    left_out = i.n_saturated + i.n_implausible
    if left_out:
        return [f"all {left_out} reflections were left out; see max_adu and the gain of the geometry"]
    return ["nothing is predicted on good pixels; see --push-res, --fix-profile-radius, and the masks"]
