# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: indexamajig's words are understood, wrong ones are explained."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from gpuidx import cli
from gpuidx.arguments import parse
from gpuidx.errors import OptionError
from gpuidx.options import OWN, Options, notices, with_rank
from gpuidx.options.rank import VARIABLES

BASE = [
    "-g",
    "a.geom",
    "-o",
    "a.stream",
    "-p",
    "a.cell",
    "--peaks=peakfinder8",
    "--zmq-input=tcp://host:5",
    "--zmq-request=next",
]


def options(words: str) -> Options:
    return understood([*BASE, *words.split()])


def understood(words: list[str]) -> Options:
    return parse(Options, words, "gpuidx", "", version=cli.VERSION, own=OWN)


def message(words: list[str]) -> str:
    with pytest.raises(OptionError) as error:
        understood(words)
    return str(error.value)


def test_defaults_are_those_of_indexamajig() -> None:
    o = options("")
    assert (o.threshold, o.min_snr, o.min_pix_count, o.max_pix_count, o.local_bg_radius) == (
        800,
        5,
        2,
        200,
        3,
    )
    assert (o.min_res, o.max_res, o.min_peaks, o.serial_start, o.jobs) == (0, 0, 0, 1, 1)
    assert o.tolerance == (5, 5, 5, 1.5, 1.5, 1.5)
    assert o.int_radius == (4, 5, 7)
    assert o.integration == "rings-nocen-nosat-nograd"
    assert all((o.check_cell, o.retry, o.refine, o.check_peaks, not o.multi))
    assert o.highres == o.push_res == math.inf
    assert o.peak_radius is None
    assert all((o.non_hits_in_stream, o.peaks_in_stream, o.refls_in_stream))


def test_last_of_a_pair_of_switches_wins() -> None:
    assert options("--multi --no-multi").multi is False
    assert options("--no-multi --multi").multi is True
    assert options("--no-retry").retry is False
    assert options("--no-check-cell --check-cell").check_cell is True


def test_repeated_options_add_up() -> None:
    tags = ["--zmq-subscribe=om", "--zmq-subscribe="]
    words = [word for word in BASE if not word.startswith("--zmq-request")]
    o = understood([*words, *tags, "--copy-header=a", "--copy-hdf5-field=/b/c"])
    assert o.zmq_subscribe == ("om", "")
    assert o.copy_header == ("a", "/b/c")


def test_unique_abbreviations_and_hidden_spellings_work() -> None:
    assert options("--thresh=7").threshold == 7
    assert options("--min-gradient=7").min_squared_gradient == 7
    assert options("--min-sq-gradient=8").min_squared_gradient == 8
    assert options("-z none").indexing == "none"


def test_zaef_is_the_search_if_none_is_named_with_the_defaults_of_indexamajig() -> None:
    given = parse(Options, ["-g", "a", "-o", "a", "-p", "a", "-i", "list"], "gpuidx", "")
    assert (given.peaks, given.threshold, given.min_squared_gradient, given.min_snr) == ("zaef", 800, 1e5, 5)
    assert (given.min_snr_biggest_pix, given.min_snr_peak_pix, given.min_sig) == (7, 6, 11)
    assert given.min_peak_over_neighbour == -math.inf
    assert not given.filters
    assert given.searches
    assert not given.device_searches


def test_a_device_searches_by_peakfinder8_in_images_as_they_are() -> None:
    assert options("").device_searches
    assert not options("--median-filter=2").device_searches
    assert not options("--filter-noise").device_searches


def test_options_without_effect_are_named_in_one_line_for_each_reason() -> None:
    o = options("--hdf5-peaks=/a/b --xgandalf-tol=0.03 --asdf-fast --xgandalf-tol=0.02 --temp-dir=x")
    assert notices(o) == [
        "--hdf5-peaks has no effect: CrystFEL ignores it, too; put 'peak_list = PATH' into the geometry",
        "--xgandalf-tol, --asdf-fast have no effect: gpuidx has an indexing engine of its own",
        "--temp-dir has no effect: there are no temporary files",
    ]
    assert notices(options("")) == []


def test_options_about_lists_of_files_have_no_effect_on_messages() -> None:
    assert notices(options("-x a --basename --wait-for-file=3")) == [
        "--prefix, --basename, --wait-for-file have no effect: only lists of files (-i) have names and wait"
    ]


def test_short_tolerance_holds_for_all_angles() -> None:
    assert options("--tolerance=1,2,3,4").tolerance == (1, 2, 3, 4, 4, 4)


def test_negative_number_is_a_value() -> None:
    assert options("--threshold -5").threshold == -5


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-o a -p a --peaks=peakfinder8 -i list", "no geometry file"),
        ("-g a -p a --peaks=peakfinder8 -i list", "no output file"),
        ("-g a -o a -p a --peaks=peakfinder8", "no input"),
        (
            "-g a -o a -p a --peaks=peakfinder8 -i list --zmq-input=tcp://h:1",
            "--input and --zmq-input exclude",
        ),
        (
            "-g a -o a -p a --peaks=peakfinder8 --zmq-input=tcp://h:1 --zmq-subscribe=a --zmq-request=b",
            "--zmq-subscribe and --zmq-request exclude",
        ),
        ("-g a -o a -p a --peaks=peakfinder8 --zmq-input=tcp://h:1", "--zmq-subscribe=TAG"),
        ("-g a -o a -p a --peaks=peakfinder8 -i list --zmq-request=next", "needs --zmq-input"),
        ("-g a -o a -p a -i list --no-image-data", "--peaks=zaef needs images"),
        ("-g a -o a -p a -i list --peaks=peakfinder9 --local-bg-radius=1", "--local-bg-radius=2 or more"),
        ("-g a -o a -p a -i list --min-squared-gradient=nan", "must be a finite number"),
        ("-g a -o a -p a -i list --min-peak-over-neighbour=nan", "--min-peak-over-neighbour is nan"),
        ("-g a -o a -p a -i list --min-sig=-1", "--min-sig is -1; it must be at least 0"),
        ("-g a -o a -p a -i list --median-filter=-1", "--median-filter is -1; it must be at least 0"),
        ("-g a -o a -p a -i list --median-filter=51", "--median-filter is 51; it must be at most 50"),
        ("-g a -o a -p a -i list --peaks=msgpack", "needs --zmq-input"),
        ("-g a -o a -i list --peaks=peakfinder8 --axis-range=50,20", "--axis-range needs two rising numbers"),
        ("-g a -o a -i list --peaks=peakfinder8 --axis-range=0,inf", "--axis-range needs two rising numbers"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --indexing=foo", "--indexing=foo is not a method"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --integration=prof3d", "prof3d"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --integration=rings-foo", "not understood"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 -j 0", "-j is 0; it must be at least 1"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 -j x", "invalid int value: 'x'"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --threshold=5abc", "invalid float value"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --int-radius=7,5,4", "rising radii"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --tolerance=1,2", "four or six numbers"),
        (
            "-g a -o a -p a -i list --peaks=peakfinder8 --threshold=nan",
            "--threshold is nan; it must be a finite number",
        ),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --min-snr=inf", "must be a finite number"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --slot-size=inf", "must be a finite number"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --fix-divergence=nan", "must be a finite number"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --push-res=nan", "--push-res is nan"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --highres=0", "--highres is 0; it must be above 0"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --fix-profile-radius=0", "it must be above 0"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --wavelength-estimate=-1", "it must be above 0"),
        (
            "-g a -o a -p a -i list --peaks=peakfinder8 --min-pix-count=100000000000",
            "it must be at most 2147483647",
        ),
        (
            "-g a -o a -p a -i list --peaks=peakfinder8 --serial-start=9223372036854775807",
            "it must be at most 2147483647",
        ),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --zmq-requests=1001", "at most 1000"),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --no-image-data", "--peaks=peakfinder8 needs images"),
        (
            "-g a -o a --zmq-input=tcp://h:1 --peaks=peakfinder8 --zmq-subscribe= --zmq-receivers=1",
            "to every subscriber",
        ),
        (
            "-g a -o a --zmq-input=tcp://h:1 --zmq-pull --zmq-receivers=2 --data-format=dectris-v2",
            "give 1",
        ),
        (
            "-g a -o a --zmq-input=tcp://h:1 --peaks=peakfinder8 --zmq-pull --zmq-receivers=2 --zmq-bind",
            "give 1",
        ),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --zmq-receivers=2", "needs --zmq-request or --zmq-pull"),
        (
            "-g a -o a -p a --zmq-input=tcp://h:1 --zmq-request=n --peaks=msgpack --no-image-data",
            "give --no-revalidate",
        ),
        ("-g a -o a -p a -i list --peaks=peakfinder8 --frobnicate", "unrecognized arguments: --frobnicate"),
    ],
)
def test_usage_errors_say_what_is_wrong(words: str, text: str) -> None:
    assert text in message(words.split())


def test_usage_error_ends_with_2_and_opens_nothing(tmp_path: Path) -> None:
    words = [
        "-g",
        "missing.geom",
        "-o",
        "out.stream",
        "-p",
        "a",
        "--peaks=peakfinder8",
        "-i",
        "list",
        "--zmq-input=tcp://h:1",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "gpuidx", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_address_ends_with_2(tmp_path: Path) -> None:
    words = ["-g", "missing.geom", "-o", "out.stream", "-p", "a", "--peaks=peakfinder8", "--zmq-input=foo"]
    done = subprocess.run(
        [sys.executable, "-m", "gpuidx", *words, "--zmq-request=next"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--zmq-input=foo is not an address" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_defect_is_one_line_and_a_traceback_only_for_debugging(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        raise ValueError("two\nlines")

    monkeypatch.setitem(cli.COMMANDS, "warmup", broken)
    assert cli.call(["warmup", *words]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("gpuidx: a defect of gpuidx: ValueError: two lines")
    assert ("Traceback" in error) == bool(words)


def test_help_has_the_groups_of_indexamajig_and_the_defaults() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuidx", "--help"], capture_output=True, text=True, check=True
    )
    for text in ("Basic options:", "Peak search options:", "Indexing options:", "Integration options:",
                 "Output options:", "(default: 800", "--no-check-cell", "simulate"):  # fmt: skip
        assert text in done.stdout
    assert "  --check-cell" not in done.stdout


def test_version_names_the_licence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuidx", "--version"], capture_output=True, text=True, check=True
    )
    assert "GPL-3.0-or-later" in done.stdout


def test_help_needs_neither_numba_nor_h5py() -> None:
    code = "import sys, gpuidx.run; print({'numba', 'h5py', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_gpu_options_have_their_defaults() -> None:
    o = options("")
    assert (o.gpu_batch, o.gpu_memory, o.gpu_max_latency, o.gpu_devices) == (0, 0.0, 20.0, (0,))


@pytest.mark.parametrize(
    ("text", "devices"), [("all", ()), ("0", (0,)), ("1,0", (1, 0)), ("2,2,1", (2, 1)), ("10", (10,))]
)
def test_gpu_devices_are_numbers_or_all(text: str, devices: tuple[int, ...]) -> None:
    assert options(f"--gpu-devices={text}").gpu_devices == devices


@pytest.mark.parametrize("text", ["", "a", "0,", "-1", "0 1", "all,1", "1.0", "²"])
def test_anything_else_is_no_list_of_gpu_devices(text: str) -> None:
    assert "all or device numbers separated by commas" in message([*BASE, f"--gpu-devices={text}"])


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--gpu-batch=129", "at most 128"),
        ("--gpu-batch=-1", "at least 0"),
        ("--gpu-memory=-1", "at least 0"),
        ("--gpu-memory=inf", "finite"),
        ("--gpu-max-latency=nan", "at least 0"),
        ("--gpu-max-latency=inf", "finite"),
    ],
)
def test_gpu_options_refuse_what_no_device_can_do(word: str, text: str) -> None:
    assert text in message([*BASE, word])


def test_indexing_from_a_file_needs_the_file_and_nothing_else() -> None:
    assert "needs the file with the crystals" in message([*BASE, "--indexing=file"])
    file = "--fromfile-input-file=a.sol"
    assert "cannot be combined" in message([*BASE, "--indexing=file,xgandalf", file])
    assert "needs --indexing=file" in message([*BASE, file])
    given = options(f"--indexing=file {file}")
    assert given.does_index
    assert not given.makes_trials
    assert given.optional_parts(has_cell=False) == []
    assert options("--indexing=xgandalf").makes_trials


def test_levels_of_groups_are_counted_from_0() -> None:
    assert options("--mille --max-mille-level=0").max_mille_level == 0
    assert "must be at least 0" in message([*BASE, "--max-mille-level=-1"])


@pytest.mark.parametrize(
    ("words", "environment", "rank"),
    [
        ("--rank=3", {"SLURM_PROCID": "1"}, "3"),
        ("", {"SLURM_PROCID": "1"}, "1"),
        ("", {"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "2"}, "2"),
    ],
)
def test_the_rank_is_in_the_names_of_what_is_written(monkeypatch, words, environment, rank):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ranked = with_rank(options(f"{words} -o out.%r.stream --harvest-file=%r.json"))
    assert (ranked.output, ranked.harvest_file) == (f"out.{rank}.stream", f"{rank}.json")


def test_a_rank_that_no_name_asks_for_is_refused():
    with pytest.raises(OptionError, match=r"--rank=3 is for file names with %r"):
        with_rank(options("--rank=3 -o out.stream"))


def test_a_name_that_asks_for_a_rank_where_there_is_none_is_refused(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OptionError, match=r"%r in a file name .* neither --rank=N nor .* SLURM_PROCID"):
        with_rank(options("-o out.%r.stream"))
    assert with_rank(options("-o out.stream")).output == "out.stream"
