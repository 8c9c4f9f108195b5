# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/fuzz-formats`: what it calls wrong, that it goes on behind a dead process, and a short run."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gpuidx.errors import Rejected

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def child(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from format_fuzz import child

    return child


class Odd:
    """A decoder that does what is asked for."""

    def __init__(self, action):
        self.action = action

    def decode(self, message):
        return self.action()


class NoWatch:
    """Of a process that must not be watched for the rest of its life."""

    on = False

    def __init__(self, *seen):
        self.seen = list(seen)


def outcome(child, action, *seen):
    """What is said of a decoder."""
    from format_fuzz.subjects import Subject

    count = Counter[str]()
    return child.attempt(Subject([[b"message"]], Odd(action)), 1, 0, count, NoWatch(*seen)), count


def reject(detail):
    def action():
        raise Rejected("reason", detail)

    return action


def test_rejection_is_counted(child):
    assert outcome(child, reject("of one line")) == (None, {"reason": 1})


@pytest.mark.parametrize("detail", ["two\nlines", "\x1b[2J", "long" * 999])
def test_odd_reasons_are_wrong(child, detail):
    assert outcome(child, reject(detail))[0].startswith("an odd reason")


def test_foreign_exceptions_are_wrong(child):
    assert outcome(child, lambda: [][1])[0].startswith("IndexError in test_fuzz_formats.py:")


def test_opened_files_are_wrong(child):
    assert outcome(child, reject(""), "open 'x'")[0] == "did more than decode: open 'x'"


def test_slow_cases_are_wrong(child, monkeypatch):
    times = iter([0.0, 2.1])
    monkeypatch.setattr(child.time, "process_time", lambda: next(times))
    assert outcome(child, reject(""))[0] == "took 2.1 s"


def test_damage_is_the_same_for_the_same_case(child):
    from format_fuzz.damage import damaged

    parts = [b"head 12", bytes(range(256)) * 8]
    cases = [damaged(parts, 1, case) for case in range(300)]
    assert cases == [damaged(parts, 1, case) for case in range(300)]
    assert sum(case == parts for case in cases) < 10
    assert cases != [damaged(parts, 2, case) for case in range(300)]


def test_run_goes_on_behind_a_process_that_dies(child, monkeypatch, capsys):
    import fuzz_formats

    ends = iter([("the process ended with -11", 3), ("", 9)])
    begun = []

    def watched(name, seed, first, end, state, output):
        begun.append((first, end))
        output.write_text('{"count": {"decoded": 4}}\n{"case": 7, "wrong": "X"}\n')
        return next(ends)

    monkeypatch.setattr(fuzz_formats, "_watched", watched)
    assert fuzz_formats.run("cbf", 1, 0, 10) == 3
    assert begun == [(0, 10), (4, 10)]
    assert "cbf case 3: the process ended with -11\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGSEGV, "ended with -11"), (signal.SIGSTOP, "hung for")]
)
def test_death_and_standstill_are_seen(child, monkeypatch, tmp_path, number, said):
    """A program in place of the child that writes its case and sends itself a signal."""
    import fuzz_formats

    monkeypatch.setattr(fuzz_formats, "PATIENCE", 1.0)
    program = (
        "import os, struct, sys; open(sys.argv[5], 'r+b').write(struct.pack('<q', 5));"
        f"os.kill(os.getpid(), {int(number)})"
    )
    real = subprocess.Popen
    monkeypatch.setattr(
        fuzz_formats.subprocess, "Popen", lambda call, **how: real([call[0], "-c", program, *call[3:]], **how)
    )
    state, output = tmp_path / "state", tmp_path / "output"
    state.write_bytes(bytes(8))
    ended, case = fuzz_formats._watched("cbf", 1, 0, 10, state, output)
    assert said in ended
    assert case == 5


def test_few_damaged_messages_of_every_kind_find_nothing(child):
    for name, make in child.SUBJECTS.items():
        subject, count = make(), Counter[str]()
        for case in range(100):
            wrong = child.attempt(subject, 1, case, count, NoWatch())
            assert wrong is None, f"{name} case {case}"
        assert len(count) > 1, name


def test_short_run_finds_nothing():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "fuzz_formats.py"), "--cases", "200", "cbf", "receiving"],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cbf: seed 1, 200 cases" in done.stdout
    assert "receiving: seed 1, 200 cases" in done.stdout
