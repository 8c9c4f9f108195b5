# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gpuidx simulate` sends and the geometry that it writes go together, in each format."""

import re
from pathlib import Path

import numpy as np
import pytest
import zmq

from gpuidx.arguments import parse
from gpuidx.cell import parse_cell
from gpuidx.commands.simulate import SimulateOptions
from gpuidx.errors import GeometryError, OptionError
from gpuidx.formats import Decoder
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message
from gpuidx.options import Options
from gpuidx.options.source import DATA_FORMATS
from gpuidx.simulation.detector import LYSOZYME, NAMES, default_geometry
from gpuidx.simulation.encoder import Encoder
from gpuidx.simulation.formats import FORMATS, EncodeSettings, nested
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.sources.contract import END, FRAME, START
from gpuidx.sources.parts import put
from gpuidx.tasks import parts_in

PAIRS = re.findall(
    r"^    (gpuidx simulate .*)\n    (gpuidx --zmq.*)$",
    (Path(__file__).parents[2] / "docs/simulate.md").read_text(),
    re.MULTILINE,
)
TRUTH_HEADER = {"dectris-v2": "user_data/truth_id", "jungfraujoch": "image_id"}


def received(messages, n_part=None):
    """What a run's main process makes of them: role and parts, as they lie in slots."""
    for message in messages:
        slot = memoryview(np.zeros(1 << 18, np.uint8))
        frames = [part if isinstance(part, zmq.Frame) else zmq.Frame(part) for part in message.parts]
        taken = put(frames, slot)
        assert taken.rejected is None, taken.rejected
        yield taken.role, parts_in(slot, taken.sizes)


def decoded(form, messages, data_format="auto"):
    header = TRUTH_HEADER.get(form, "truth_id")
    words = ["-g", "x", "-o", "x", "-p", "x", "--zmq-input=tcp://h:1", "--zmq-pull"]
    options = parse(Options, [*words, f"--data-format={data_format}", f"--copy-header={header}"], "", "")
    decoder = Decoder(parse_geometry(default_geometry(64, form), "x.geom"), options, None)
    series, frames = (), []
    for role, parts in received(messages):
        if role == START:
            series = parts
        elif role == FRAME:
            several = parts if len(parts) > 1 else ()
            message = Message(serial=1, filename="", event="", data=parts[-1], parts=several, series=series)
            frame = decoder.decode(message)
            frames.append((frame, frame.headers[header], frame.image.copy()))
    return frames


def simulated(form, text=None, encoding=None, **settings):
    geometry = parse_geometry(text or default_geometry(64, form), "x.geom")
    simulator = Simulator(geometry, parse_cell(LYSOZYME, "x.cell"), FrameSettings(**settings))
    encoder = Encoder(simulator, EncodeSettings(format=form, **(encoding or {})))
    frames = [simulator.numbered(number) for number in range(2)]
    return frames, list(encoder.series([encoder.message(frame) for frame in frames], 3))


def check(form, frames, found):
    for simulated_frame, (frame, number, image) in zip([*frames, frames[0]], found, strict=True):
        np.testing.assert_array_equal(image, simulated_frame.image)
        assert int(number) == simulated_frame.truth.number
        assert frame.photon_energy == pytest.approx(simulated_frame.truth.photon_energy)
        np.testing.assert_allclose(frame.detector.corner, simulated_frame.detector.corner, rtol=1e-12)


def test_all_formats_that_are_read_can_be_sent():
    assert {*FORMATS} == {*NAMES} == {*DATA_FORMATS[1:]}


@pytest.mark.parametrize(
    ("form", "compression"), [(form, name) for form, f in FORMATS.items() for name in f.compressions]
)
def test_frames_are_decoded_with_the_geometry_that_goes_with_the_format(form, compression):
    varied = {"energy_spread": 0.01, "clen_spread": 0.001}
    spread = {name: value for name, value in varied.items() if name not in FORMATS[form].once}
    frames, messages = simulated(form, encoding={"compression": compression}, **spread)
    check(form, frames, decoded(form, messages, form))
    roles = [role for role, _ in received(messages)]
    has_series = FORMATS[form].start is not None
    assert roles == ([START] if has_series else []) + [FRAME] * 3 + ([END] if has_series else [])


@pytest.mark.parametrize(
    ("form", "dtype"), [(form, dtype) for form, f in FORMATS.items() for dtype in ("u2", "u4", f.types[-1])]
)
def test_frames_are_recognised_with_each_kind_of_pixels(form, dtype):
    frames, messages = simulated(form, dtype=dtype)
    check(form, frames, decoded(form, messages))


def test_a_geometry_with_several_arrays_is_refused_where_a_message_has_one():
    text = default_geometry(64, "cbf").replace("p2/min_fs", "data = lower\np2/min_fs")
    with pytest.raises(GeometryError, match=r"x\.geom: asks for 2 arrays; a message of cbf has one"):
        simulated("cbf", text)


def test_peaks_go_into_hdf5_messages_whose_geometry_asks_for_them():
    text = default_geometry(64, "hdf5").replace("data =", "peak_list = /peaks\ndata =")
    _, messages = simulated("hdf5", text, photons=3000.0)
    assert b"peakXPosRaw" in messages[0].parts[0]


def test_names_are_paths_and_positions():
    assert nested({"/a/b": 1.0, "a/c": 2, "d/2": 3.0}) == {"a": {"b": 1.0, "c": 2}, "d": [0.0, 0.0, 3.0]}
    with pytest.raises(OptionError, match="'a/b' and the others"):
        nested({"a": 1.0, "a/b": 2.0})


def test_the_documented_pairs_of_commands_are_understood():
    assert {parse(SimulateOptions, pair[0].split()[2:], "", "").format for pair in PAIRS} == {*FORMATS}
    for simulate, run in PAIRS:
        sent, options = (
            parse(SimulateOptions, simulate.split()[2:], "", ""),
            parse(Options, run.split()[1:], "", ""),
        )
        assert (options.geometry, options.pdb) == (sent.write_geometry, sent.write_cell)
        way = {"push": options.zmq_pull, "pub": options.zmq_subscribe, "rep": options.zmq_request}
        assert way[sent.serve]
        assert options.zmq_input == (sent.bind,)
