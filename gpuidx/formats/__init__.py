# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to frames; `Decoder` recognises the format and hands the message to the one who knows it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gpuidx.errors import Rejected
from gpuidx.formats import cbf, dectris_v1, dectris_v2, hdf5_messages, jungfraujoch, lclstreamer, seedee
from gpuidx.formats.hdf5 import Hdf5Files
from gpuidx.formats.lookup import HeaderLookup, ReadValue
from gpuidx.formats.messages import MsgPackDecoder
from gpuidx.formats.named_values import header_value
from gpuidx.formats.no_data import NoData
from gpuidx.formats.packed import with_pixels
from gpuidx.formats.seedee import read_map
from gpuidx.formats.setting import Setting
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.geometry.streaming import streaming_problems
from gpuidx.model import BYTE_TYPES, PADDING, PIXEL_TYPES, RECOGNISED, Frame, Message
from gpuidx.options import Options

__all__ = ["Decoder", "detect"]


class Format(NamedTuple):
    """A kind of message: its name for the user, how it begins, and the class that decodes it."""

    text: str
    begins: Callable[[Sequence[memoryview]], bool]
    decoder: Callable[[Setting], Any]


FORMATS = {
    "hdf5": Format("HDF5", hdf5_messages.begins, hdf5_messages.Hdf5Messages),
    "cbf": Format("CBF", cbf.begins, cbf.CbfDecoder),
    "seedee": Format("Seedee", seedee.begins, seedee.SeedeeDecoder),
    "dectris-v1": Format("DECTRIS Stream V1", dectris_v1.begins, dectris_v1.DectrisV1Decoder),
    "lclstreamer": Format("LCLStreamer", lclstreamer.begins, lclstreamer.LclstreamerDecoder),
    "jungfraujoch": Format("Jungfraujoch", jungfraujoch.begins, jungfraujoch.JungfraujochDecoder),
    "dectris-v2": Format("DECTRIS Stream V2", dectris_v2.begins, dectris_v2.DectrisV2Decoder),
    "msgpack": Format("MsgPack", lambda parts: True, MsgPackDecoder),
}
"""Values of ``--data-format`` but ``auto``, in the order in which ``auto`` tries them."""

_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))

LONGEST_PADDING = 15


def detect(parts: Sequence[memoryview]) -> str:
    """The format of a message, by its first bytes; MsgPack if it is none of the others."""
    return next(name for name, known in FORMATS.items() if known.begins(parts))


def without_padding(message: Message) -> Message:
    """The message without the bytes in front that a source put there to align the pixels.

    It does so only where the message is all in one part: others are aligned part by part.
    """
    if message.parts:
        return message
    head = bytes(message.data[:LONGEST_PADDING])
    padding = len(head) - len(head.lstrip(PADDING))
    return replace(message, data=message.data[padding:]) if padding else message


def format_of(message: Message) -> str:
    """The same for a message which may have values beside it: Seedee's metadata come so over ASAP::O."""
    if message.values and seedee.begins((message.values, message.data)):
        return "seedee"
    return detect(message.parts or (message.data,))


def beside(message: Message) -> ReadValue | None:
    """What gives the values that came beside a message; None if there are none.

    Raises
    ------
    Rejected
        If they are no JSON object.
    """
    if not message.values:
        return None
    values = read_map(message.values, "what came beside the message")
    return lambda name: header_value((values,), name)


class Decoder:
    """Decodes the messages and files of one run; made once per worker.

    Parameters
    ----------
    geometry, options
        Of the run.
    masks
        Tells pixels that are bad in single frames; None: all pixels are taken as they are.
    header_lookup
        Reads the header values.

    Attributes
    ----------
    headers
        Of the class *header_lookup*.
    notes
        Counts what was ignored without harm: further maps, duplicate keys, dropped peaks, copied headers
        that were missing; and, with `RECOGNISED` in front, formats that were not told.
    """

    def __init__(
        self,
        geometry: Geometry,
        options: Options,
        masks: Masks | None,
        header_lookup: type[HeaderLookup] = HeaderLookup,
    ) -> None:
        self._setting = Setting.of(geometry, options, masks, header_lookup)
        self.notes, self.headers = self._setting.notes, self._setting.headers
        self._files = Hdf5Files(self._setting)
        self._no_data = NoData(self._setting)
        self._format = options.data_format
        self._decoders: dict[str, Any] = {}
        self._recognised = ""
        self._last_file, self._last_is_cbf = "", False

    def _decoder(self, name: str) -> Any:
        """The decoder of a format, made when it is first needed.

        Raises
        ------
        Rejected
            If the geometry asks for something that messages of this format do not have.
        """
        if name not in self._decoders:
            options = self._setting.options
            wanted = {"read_masks": options.mask_data, "read_images": options.image_data}
            for problem in streaming_problems(self._setting.geometry, **wanted, data_format=name):
                raise Rejected("geometry does not suit the format", f"{FORMATS[name].text}: {problem}")
            self._decoders[name] = FORMATS[name].decoder(self._setting)
        return self._decoders[name]

    def _format_of(self, message: Message) -> str:
        """The format that the user told, or the one that the message begins with."""
        if not message.parts and bytes(message.data[:2]) in _PICKLES:
            raise Rejected(
                "a pickle",
                "a Python pickle is never opened; "
                "if this is OM's stream for its GUI, use its responding socket",
            )
        if self._format != "auto":
            return self._format
        name = format_of(message)
        if name != self._recognised:
            self._recognised = name
            self.notes[f"{RECOGNISED}{FORMATS[name].text} (--data-format={name})"] = 1
        return name

    def decode(self, message: Message, room: memoryview | None = None, packs: bool = False) -> Frame:
        """The frame of a message, or of a file if the message has no data.

        Parameters
        ----------
        message
            What came.
        room
            Where the image shall lie for a device, if it fits, unless it can stay in the message; single
            bytes stay what they are then (see `gpuidx.formats.frame.widened`).
        packs
            Leave the image compressed where a device can decode it: `Frame.packed`.

        Raises
        ------
        Rejected
            If the frame cannot be used; says the key, what was found and what is expected.
        """
        buffers = self._setting.buffers
        buffers.room, buffers.packs = room, packs
        buffers.types = PIXEL_TYPES if room is None else (*PIXEL_TYPES, *BYTE_TYPES)
        if not message.data and not message.parts:
            return self._decode_file(message)
        message = without_padding(message)
        self.headers.beside = beside(message)
        name = self._format_of(message)
        if name == "seedee" and message.values:
            message = replace(message, parts=(message.values, message.data))
        frame: Frame = self._decoder(name).decode(message)
        return frame

    def _decode_file(self, message: Message) -> Frame:
        name = message.filename
        if name != self._last_file:  # frames of a file come in a row: look into it once
            self._last_file, self._last_is_cbf = name, cbf.file_begins(name)
        if self._last_is_cbf:
            frame: Frame = self._decoder("cbf").decode_file(message)
            return frame
        return self._files.decode(message)

    def with_pixels(self, frame: Frame) -> Frame:
        """A frame whose pixels stayed compressed, with what `decode` makes of them elsewhere.

        Raises
        ------
        Rejected
            If they are damaged.
        """
        self._setting.buffers.room = None  # in the slot of the frame that was decoded last
        return with_pixels(frame, self._setting.geometry.slab_shape, self._no_data)

    def frame_count(self, message: Message) -> int:
        """How many frames a message holds.

        Raises
        ------
        Rejected
            If it holds none, or that cannot be found out.
        """
        if not message.data:
            return 1
        message = without_padding(message)
        if self._format_of(message) != "hdf5":
            return 1
        count: int = self._decoder("hdf5").frame_count(message)
        return count

    def close(self) -> None:
        """Close the files that are still open."""
        self._files.close()
