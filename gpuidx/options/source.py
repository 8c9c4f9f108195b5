# SPDX-License-Identifier: GPL-3.0-or-later
"""Where frames come from."""

import math
from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.asapo import AsapoOptions
from gpuidx.options.values import BASIC

DATA_FORMATS = (
    "auto", "msgpack", "hdf5", "seedee", "cbf", "dectris-v1", "dectris-v2", "jungfraujoch", "lclstreamer",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Files that a run reads."""

    input: str | None = option(
        None, "-i", "--input", group=BASIC, metavar="FILE",
        help="list of image files, one per line, perhaps with an event; - for standard input",
    )  # fmt: skip
    prefix: str = option(
        "", "-x", "--prefix", group=BASIC, metavar="TEXT",
        help="put this in front of the file names in the list; a folder gets its slash",
    )  # fmt: skip
    basename: bool = option(False, group=BASIC, help="cut the folders off the file names in the list")
    check_prefix: bool = option(True, group=BASIC, off=True, help="take --prefix as it is")
    wait_for_file: int = option(
        0, group=BASIC, metavar="S",
        help="wait this long for a file of the list that is not there yet, s; -1: for ever",
    )  # fmt: skip
    geometry: str = option("", "-g", "--geometry", group=BASIC, metavar="FILE", help="geometry file (.geom)")


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Which senders messages are received from, and how."""

    zmq_input: tuple[str, ...] = option(
        (), group=BASIC, metavar="ADDRESS", repeat=True,
        help="receive frames over ZeroMQ from this address; repeatable",
    )  # fmt: skip
    zmq_subscribe: tuple[str, ...] = option(
        (), group=BASIC, metavar="TAG", repeat=True, help="subscribe to this tag (SUB socket); repeatable"
    )
    zmq_request: str | None = option(
        None, group=BASIC, metavar="STRING", help="send this string for each frame (REQ socket)"
    )
    zmq_pull: bool = option(
        False, group=BASIC, help="take what is pushed (PULL socket), as DECTRIS detectors and LCLStreamer do"
    )
    zmq_bind: bool = option(
        False, group=BASIC, help="bind to the addresses instead of connecting to them: the senders connect"
    )
    zmq_server_key: str | None = option(
        None, group=BASIC, metavar="FILE", help="public key of the server (CURVE), to encrypt the connection"
    )
    zmq_own_key: str | None = option(
        None, group=BASIC, metavar="FILE", help="own secret key (CURVE); with --zmq-bind that of the server"
    )
    image_data: bool = option(
        True, group=BASIC, off=True, help="do not read the image, only headers and the peak list"
    )
    no_data_timeout: float | None = option(
        None, group=BASIC, metavar="S", help="end the run when nothing has come for this many seconds"
    )
    max_frames: int | None = option(None, group=BASIC, metavar="N", help="end the run after this many frames")
    zmq_requests: int = option(
        4, group=BASIC, metavar="N", help="requests in flight at the same time, with --zmq-request"
    )
    zmq_timeout: float = option(
        60.0, group=BASIC, metavar="S",
        help="ask again if a request was not answered for this long although the connection lives",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class InputOptions(LinkOptions, FileOptions):
    """Where frames come from and how they are understood."""

    data_format: str = option(
        "auto", group=BASIC, metavar="FORMAT", choices=DATA_FORMATS,
        help=f"format of streamed frames: {', '.join(DATA_FORMATS)}",
    )  # fmt: skip
    zmq_receivers: int = option(
        0, group=BASIC, metavar="N",
        help="processes that receive, with --zmq-request or --zmq-pull; 0: the main process does it",
    )  # fmt: skip
    mask_data: bool = option(True, group=BASIC, off=True, help="do not read pixel masks from files")
    highres: float = option(
        math.inf, group=BASIC, metavar="A", type=float, help="ignore pixels beyond this resolution, in Å"
    )


@dataclass(frozen=True, kw_only=True)
class SourceOptions(AsapoOptions, InputOptions):
    """Any source."""

    @property
    def is_streamed(self) -> bool:
        """Whether frames come as messages."""
        return self.input is None
