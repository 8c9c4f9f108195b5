# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames put into the stand-in's streams at a rate, as a detector's producer puts them."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from gpuidx.simulation.asapo.frames import AsapoFrame
from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.asapo.settings import STAND_IN_TOKEN, AsapoSettings

KEPT_STREAMS = 10
"""Streams that are kept when one follows the other; older ones are deleted."""


def serve_asapo(
    frames: Sequence[AsapoFrame],
    n_frame: int,
    settings: AsapoSettings,
    rate: float,
    ready: Callable[[str], None],
    stop: threading.Event,
) -> list[str]:
    """Serve frames until *stop* is set.

    Parameters
    ----------
    frames
        In the order of sending; frame numbers count on when they begin again.
    n_frame
        How many; 0: for ever.
    settings
        Address, names, faults.
    rate
        Frames per second; 0: all are there at once.
    ready
        Called once, when clients may connect, with the options that read the frames.
    stop
        Ends it.

    Returns
    -------
    summary
        A line for the frames, and one for each group of consumers in a stream.

    Raises
    ------
    SourceError
        If the port cannot be had.
    """
    with StandIn(
        token=settings.asapo_token,
        beamtime=settings.asapo_beamtime,
        source=settings.asapo_source,
        faults=settings.asapo_fault,
        host=settings.asapo_host,
        port=settings.asapo_port,
    ) as server:
        ready(reading_options(server.endpoint, settings))
        n_put = feed(server, frames, n_frame, settings, rate, stop)
        stop.wait()
        return [f"{n_put} frames put", *_groups(server)]


def reading_options(endpoint: str, settings: AsapoSettings) -> str:
    """Options of gpuidx that read the frames; a token that was given is not shown."""
    token = settings.asapo_token if settings.asapo_token == STAND_IN_TOKEN else "..."
    options = {
        "endpoint": endpoint,
        "token": token,
        "beamtime": settings.asapo_beamtime,
        "source": settings.asapo_source,
        "stream": settings.asapo_stream,
        "group": "online",
    }
    return " ".join(f"--asapo-{name}={value}" for name, value in options.items())


def following(stream: str) -> str:
    """The name of the stream that follows: run1, run2; test, test2."""
    number = re.search(r"\d*$", stream)
    assert number is not None
    digits = number[0]
    following_digits = str(int(digits) + 1).zfill(len(digits)) if digits else "2"
    return stream[: number.start()] + following_digits


def feed(
    server: StandIn,
    frames: Sequence[AsapoFrame],
    n_frame: int,
    settings: AsapoSettings,
    rate: float,
    stop: threading.Event,
) -> int:
    """Put the frames; how many were put."""
    streams = [settings.asapo_stream]
    began = time.monotonic()
    for number in range(n_frame) if n_frame else itertools.count():
        if stop.wait(max(0.0, began + number / rate - time.monotonic()) if rate else 0.0):
            return number
        if settings.asapo_stream_frames and number and number % settings.asapo_stream_frames == 0:
            streams.append(following(streams[-1]))
            if settings.asapo_finish:
                server.finish(streams[-2], streams[-1])
            if len(streams) > KEPT_STREAMS:
                server.store.delete(server.source, streams.pop(0))
        frame = frames[number % len(frames)]
        meta = frame.numbered_meta(number)
        server.put(streams[-1], partial(frame.payload, number), size=frame.n_byte, meta=meta)
    if settings.asapo_finish:
        server.finish(streams[-1])
    return n_frame


def _groups(server: StandIn) -> list[str]:
    return [
        f"stream {stream.name}, group {name}: {max(group.arrived, group.last_id)} of {len(stream.order)}"
        f" frames given, {len(group.acknowledged)} acknowledged"
        for stream in server.store.streams(server.source)
        for name, group in stream.groups.items()
    ]
