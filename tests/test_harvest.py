# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of parameters says what CrystFEL's says."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpuidx.arguments import parse
from gpuidx.cell import parse_cell
from gpuidx.errors import OptionError
from gpuidx.geometry import parse_geometry
from gpuidx.harvest import harvest, write_harvest
from gpuidx.options import Options

FROZEN = json.loads(gzip.decompress((Path(__file__).parent / "data/harvest_crystfel.json.gz").read_bytes()))
BASE = ["-g", "x.geom", "-o", "x.stream", "-i", "list"]
FROM_FILE = ["--indexing=file", "--fromfile-input-file=x.sol"]


def inputs(run, words=FROM_FILE):
    options = parse(Options, [*BASE, *words, *run["words"].split()], "gpuidx", "")
    cell = parse_cell(run["cell"], "x.cell") if run["cell"] else None
    return options, parse_geometry(run["geometry"], "x.geom"), cell


def flat(value, name=""):
    """Keys joined by slashes, and their values, in order."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: one for part in value for key, one in flat(value[part], f"{name}/{part}").items()}


@pytest.mark.parametrize("run", FROZEN, ids=range(len(FROZEN)))
def test_keys_and_values_are_crystfels(run) -> None:
    ours, theirs = flat(harvest(*inputs(run))), flat(run["said"])
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        exact = value is None or isinstance(value, (bool, str, list))
        # CrystFEL holds many of them as float32
        assert ours[key] == (value if exact else pytest.approx(value, rel=1e-6)), key
        assert isinstance(ours[key], bool) == isinstance(value, bool), key


@pytest.mark.parametrize(("words", "method"), [([], "gpuidx"), (["--indexing=none"], "none")])
def test_the_method_is_named(words, method) -> None:
    assert harvest(*inputs(FROZEN[2], words))["indexing"]["methods"] == [method]


def test_the_file_is_written_for_the_first_job_of_several_only(tmp_path) -> None:
    options, *rest = inputs(FROZEN[0])
    path = tmp_path / "out.json"
    wanted = replace(options, harvest_file=str(path))
    write_harvest(options, *rest)
    write_harvest(replace(wanted, serial_start=2), *rest)
    assert not path.exists()
    write_harvest(wanted, *rest)
    assert json.loads(path.read_text()) == harvest(wanted, *rest)
    with pytest.raises(OptionError, match="cannot be written"):
        write_harvest(replace(wanted, harvest_file=str(tmp_path)), *rest)
