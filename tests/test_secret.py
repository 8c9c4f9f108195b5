# SPDX-License-Identifier: GPL-3.0-or-later
"""The token of a beamtime: read from where it is, and gone from command line and environment."""

import os
import pickle
from pathlib import Path

import pytest

from gpuidx import secret
from gpuidx.errors import OptionError
from gpuidx.secret import HIDDEN, TOKEN_VARIABLE, Secret, conceal, read_token, without_token

ENDPOINT = "--asapo-endpoint=host:1"


@pytest.fixture
def started(monkeypatch):
    """Command lines and environments that `conceal` has started programs with."""
    found = []
    monkeypatch.setattr(secret.os, "execv", lambda path, words: found.append((words, dict(os.environ))))
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    return found


def token_in(words):
    """What the new program reads, from the file that its last word names."""
    name = words[-1].partition("--asapo-token-file=")[2]
    assert name
    secret = read_token(None, name)
    os.close(int(Path(name).name))
    return secret.reveal()


def test_a_secret_does_not_show_itself():
    secret = Secret("seven-seals")
    assert f"{secret} {secret!r} {[secret]}" == f"{HIDDEN} {HIDDEN} [{HIDDEN}]"
    assert pickle.loads(pickle.dumps(secret)).reveal() == "seven-seals"
    assert secret == Secret("seven-seals") != Secret("other")


@pytest.mark.parametrize(
    "words",
    [
        ["--asapo-token=x", "-o", "out"], ["--asapo-token", "x", "-o", "out"], ["-o", "out", "--asapo-t=x"],
        ["-o", "--asapo-toke", "x", "out"],
    ],
)  # fmt: skip
def test_the_token_is_taken_out_however_it_is_given(words):
    assert without_token(words) == (["-o", "out"], "x")


def test_other_words_stay():
    words = ["--asapo-token-file=f", "--asapo-timeout=x", "--token=x", "-o", "asapo-token"]
    assert without_token(words) == (words, None)


def test_the_option_goes_into_a_pipe(started):
    conceal([ENDPOINT, "--asapo-token=seven-seals", "-o", "out"], ["python", "-m", "gpuidx"])
    ((words, environment),) = started
    assert words[:-1] == ["python", "-m", "gpuidx", ENDPOINT, "-o", "out"]
    assert "seven-seals" not in " ".join([*words, *environment.values()])
    assert token_in(words) == "seven-seals"


def test_the_variable_goes_into_a_pipe(started, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "seven-seals")
    conceal(["asapo", "status", ENDPOINT], ["gpuidx"])
    ((words, environment),) = started
    assert TOKEN_VARIABLE not in environment
    assert token_in(words) == "seven-seals"


@pytest.mark.parametrize("option", ["--asapo-token-file=f", "--asapo-token-f=f"])
def test_beside_a_file_the_variable_is_only_cleared(started, monkeypatch, option):
    monkeypatch.setenv(TOKEN_VARIABLE, "seven-seals")
    conceal([ENDPOINT, option], ["gpuidx"])
    ((words, environment),) = started
    assert words == ["gpuidx", ENDPOINT, option]
    assert TOKEN_VARIABLE not in environment


@pytest.mark.parametrize(
    "words",
    [
        [ENDPOINT, "--asapo-token-file=f"], ["simulate", "--asapo", "--asapo-token=x"], ["devices"],
        [ENDPOINT, "--asapo-token=x", "--asapo-token-file=f"], [ENDPOINT, "--asapo-token="],
    ],
)  # fmt: skip
def test_otherwise_nothing_is_started(started, words):
    conceal(words, ["gpuidx"])
    assert started == []


def test_commands_that_need_no_token_start_with_the_variable_set(started, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "seven-seals")
    conceal(["devices"], ["gpuidx"])
    assert started == []


def test_a_token_is_read_from_a_file_without_its_end_of_line(tmp_path):
    file = tmp_path / "token"
    file.write_text("seven-seals\n")
    assert read_token(None, str(file)) == Secret("seven-seals")
    assert read_token(Secret("x"), None) == Secret("x")


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", b"x" * 40000])
def test_a_file_without_one_token_is_refused(tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(OptionError, match="--asapo-token-file"):
        read_token(None, str(file))


def test_two_tokens_and_no_file_are_refused(tmp_path):
    with pytest.raises(OptionError, match="exclude each other"):
        read_token(Secret("x"), "f")
    with pytest.raises(OptionError, match="cannot be read"):
        read_token(None, str(tmp_path / "absent"))


def test_without_any_the_variable_counts(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "x")
    assert read_token(None, None) == Secret("x")
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert read_token(None, None) == Secret("")
