# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of indexamajig is taken, taken without effect, or refused, and docs/options.md says which."""

import dataclasses
from typing import Any

import option_table
import pytest
from option_table import NO_EFFECT, REFUSED, TOLD, YES, Row

from gpuidx import cli
from gpuidx.arguments import Parser, spellings
from gpuidx.errors import OptionError
from gpuidx.options import OWN, Options, notices

PARSER = Parser(Options, prog="gpuidx", description="", version=cli.VERSION, own=OWN)
FILES = ["-g", "a.geom", "-o", "a.stream", "-i", "a.lst"]
SOCKET = ["-g", "a.geom", "-o", "a.stream", "--zmq-input=tcp://host:5"]
ASAPO = [
    *FILES[:4], "--asapo-endpoint=host:1", "--asapo-beamtime=b", "--asapo-source=s", "--asapo-group=g",
    "--asapo-stream=r",
]  # fmt: skip
BASE = {
    "--zmq-input": [*SOCKET[:-1], "--zmq-request=next"],
    "--zmq-request": SOCKET,
    "--zmq-subscribe": SOCKET,
    "--fromfile-input-file": [*FILES, "--indexing=file"],
    "--no-image-data": [*FILES, "--peaks=hdf5", "--no-revalidate"],
}
VALUE = {
    "--zmq-input": "tcp://host:5", "--peaks": "peakfinder8", "--data-format": "msgpack",
    "--tolerance": "5,5,5,1.5", "--integration": "rings", "--int-radius": "3,4,5", "--peak-radius": "3,4,5",
    "--indexing": "xgandalf",
}  # fmt: skip


def base(row: Row) -> list[str]:
    """Words beside which the option makes sense."""
    if row.flags[0].startswith("--asapo-"):
        return [word for word in ASAPO if not word.startswith(f"{row.flags[0]}=")]
    return BASE.get(row.flags[0], FILES)


def parsed(words: list[str]) -> Options:
    options: Options = PARSER.parse_args(words)
    return options


def spelt(row: Row) -> list[list[str]]:
    """The option in each spelling, its value behind it in each way."""
    value = VALUE.get(row.flags[0], "3")
    if not row.argument:
        return [[flag] for flag in row.flags]
    return [
        way
        for flag in row.flags
        for way in ([flag, value], [f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}"])
    ]


@pytest.mark.parametrize("row", option_table.rows(), ids=lambda row: row.flags[0])
def test_each_option_of_indexamajig_is_answered_as_the_table_says(
    row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in spelt(row):
        if row.state == REFUSED:
            with pytest.raises(OptionError, match=f"^{words[0].split('=')[0]} "):
                parsed(base(row) + words)
        elif row.state == TOLD or row.flags[0] in option_table.OF_PARSER:
            with pytest.raises(SystemExit) as ended:
                parsed(base(row) + words)
            assert ended.value.code == 0
            assert "gpuidx" in capsys.readouterr().out
        else:
            said = notices(parsed(base(row) + words))
            assert said == (
                [f"{words[0].split('=')[0]} has no effect: {row.text}"] * (row.state == NO_EFFECT)
            )
            assert row.state in (YES, NO_EFFECT)


@pytest.mark.parametrize("row", option_table.rows(), ids=lambda row: row.flags[0])
def test_each_option_of_indexamajig_takes_a_value_if_and_only_if_it_does_there(row: Row) -> None:
    words = [*base(row), row.flags[0]]
    if row.argument:
        with pytest.raises(OptionError, match="expected one argument"):
            parsed(words)
    else:
        with pytest.raises(OptionError, match="ignored explicit argument '3'"):
            parsed([*words[:-1], f"{row.flags[0]}=3"])


def test_the_document_has_the_table() -> None:
    stated = option_table.stated(option_table.DOCUMENT.read_text())
    assert stated == option_table.table(), "scripts/option-table brings it up to date"


def test_what_is_known_is_of_indexamajig_or_said_to_be_gpuidx_own() -> None:
    listed = {flag for row in option_table.rows() for flag in row.flags}
    assert set(option_table.known()) - listed == {"--min-sq-gradient"}  # in its manual, but not in its help
    assert all(row.state for row in option_table.rows())
    own = {flag for f in dataclasses.fields(Options) if f.name in OWN for s in spellings(f) for flag in s}
    assert len(own) >= len(OWN)
    assert not own & listed


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("--zmq-r=x", "zmq_request", "x"),  # gpuidx has --zmq-requests and --zmq-receivers
        ("--zmq-s=x", "zmq_subscribe", ("x",)),  # and --zmq-server-key
        ("--min-g=3", "min_squared_gradient", 3),
        ("--copy-h=a", "copy_header", ("a",)),  # two spellings of the same
        ("--save=a", "save_cell", "a"),
    ],
)
def test_options_of_indexamajig_go_before_gpuidx_own_in_abbreviations(
    word: str, field: str, value: Any
) -> None:
    assert getattr(parsed([*(SOCKET if "zmq" in word else FILES), word]), field) == value


def test_abbreviations_of_options_of_different_meaning_are_refused() -> None:
    with pytest.raises(OptionError, match="ambiguous option: --no-r"):
        parsed([*FILES, "--no-r"])
    assert notices(parsed([*FILES, "--xgandalf-samp=3"])) == [
        "--xgandalf-sampling-pitch has no effect: gpuidx has an indexing engine of its own"
    ]


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--min-peak-over-neighbour", "-inf"], "min_peak_over_neighbour", float("-inf")),
        (["--push-res", "-1e1"], "push_res", -10),
        (["--wait-for-file", "-1"], "wait_for_file", -1),
        (["-t", "-.5e1"], "threshold", -5),
        (["-i", "-"], "input", "-"),
    ],
)
def test_a_word_that_begins_with_a_minus_may_be_a_value(words: list[str], field: str, value: Any) -> None:
    assert getattr(parsed([*FILES, *words]), field) == value


def test_the_last_one_wins_but_for_those_that_may_be_repeated() -> None:
    o = parsed([*FILES, "-j4", "--multi", "--copy-header=a", "-j", "8", "--no-multi", "--copy-hdf5-field=b"])
    assert (o.jobs, o.multi, o.copy_header) == (8, False, ("a", "b"))
