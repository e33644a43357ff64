"""The Makefile: a variable reaches every program that has an option for it, and is refused everywhere else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest
from typed import make

from x2c.core.script import PROJECT

PROGRAMS = (
    *("sweep", "plan", "status", "retry", "worker", "dashboard", "verify", "reproduce"),
    *("train", "sample", "runs", "classify", "prepare", "autoencoder", "weights"),
    *("tables", "claims", "figures", "results", "trace"),
)
"""Targets that start one program of the project."""
POSITIONAL = {"name", "variant", "cell"}
"""Variables that are no option of some programs."""


def command(*words: str) -> list[str]:
    """The words of the one command that a target runs."""
    done = make(*words)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.strip().splitlines()[-1])


@cache
def taken(target: str) -> set[str]:
    """The variables that a target takes, as its error lists them."""
    match = re.search(r"expected (.*); got nothing_like_it;", make(target, "nothing_like_it=1").stderr)
    return set() if match is None or match[1] == "no variable" else set(match[1].split())


@cache
def options_of(program: tuple[str, ...]) -> set[str]:
    """The options that a program's help lists, without their dashes."""
    line = [sys.executable, *program[1:], "--help"]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  (?:-\w, )?--([a-z][a-z-]*)", done.stdout, re.MULTILINE))


def program_of(words: list[str]) -> tuple[str, ...]:
    """The program that a command starts, `python FILE` or `python -m MODULE`, and its command of sweeps or runs."""
    count = 2 if words[1] != "-m" else 4 if words[2] in ("x2c.sweep", "x2c.runs") else 3
    return tuple(words[:count])


@pytest.mark.parametrize("target", PROGRAMS)
def test_a_target_takes_what_its_program_has_an_option_for(target):
    variables = taken(target) - {"options", "PYTHON", "extras"}
    words = command(target, *(f"{variable}={index + 3}" for index, variable in enumerate(sorted(variables))))
    options = options_of(program_of(words))
    for index, variable in enumerate(sorted(variables)):
        value = str(index + 3)
        if variable in options and variable != "detach":
            assert f"--{variable}={value}" in words or value == words[words.index(f"--{variable}") + 1]
        elif variable == "processes":
            assert f"--compute.processes={value}" in words
        else:
            assert f"--{variable}" in words if variable == "detach" else variable in POSITIONAL and value in words
    known = set().union(*map(taken, PROGRAMS))
    assert options & known <= variables


@pytest.mark.parametrize("target", PROGRAMS)
def test_other_options_are_passed_on_as_they_are_typed(target):
    assert command(target, "options=--first='a b' --second 2")[-3:] == ["--first=a b", "--second", "2"]


def test_every_entry_point_has_a_target():
    started = {word for target in PROGRAMS for word in command(target)[1:3]}
    scripts = [path for folder in ("x2c", "analysis") for path in (PROJECT / folder).glob("*.py")]
    programs = [path for path in scripts if '__name__ == "__main__"' in path.read_text()]
    assert len(programs) > 10
    # The command `x2c` hands over to the others.
    for path in set(programs) - {PROJECT / "x2c/__main__.py"}:
        name = str(path.relative_to(PROJECT))
        assert name in started or name.removesuffix(".py").replace("/", ".") in started, name


@pytest.mark.parametrize("runs", ["a b", "it's", 'say "x"', "50%", "a$HOME", "a;b", "x=1 y=2", "-r", "#1", "ü*"])
def test_a_value_arrives_as_it_was_typed(runs):
    assert f"--runs={runs}" in command("tables", f"runs={runs}")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tables", "naem=losses"], ["make tables: expected runs out scale data only", "got naem; `make help`"]),
        (["tables", "name=losses"], ["make tables: expected runs", "got name;"]),
        (["sweep", "seed=1"], ["make sweep: expected name seeds", "got seed; did you mean seeds? `make help`"]),
        (["claims", "workers=2"], ["make claims: expected runs", "got workers;"]),
        (["plan", "storage=x.db"], ["make plan: expected name", "got storage;"]),
        (["check", "runs=r"], ["make check: expected PYTHON extras; got runs;"]),
        (["clean", "runs=r"], ["make clean: expected no variable; got runs; leave it out"]),
        (["tables", "claims", "reference=cfg"], ["make claims: expected runs", "got reference;"]),
        (["runs=r"], ["make help: expected no variable; got runs; leave it out"]),
        (["swep"], ["make: expected help setup", "got swep; did you mean sweep? `make help`"]),
    ],
)
def test_what_no_program_would_see_is_refused_in_one_line(words, parts):
    done = make(*words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for part in parts:
        assert part in done.stderr
    assert done.stdout == ""


def test_a_variable_of_the_environment_is_not_taken_for_one_that_was_given(monkeypatch):
    monkeypatch.setenv("runs", "elsewhere")
    assert not [word for word in command("tables") if word.startswith("--runs")]


def test_tables_are_of_the_latest_runs_unless_they_are_told():
    assert command("tables")[2:] == []
    assert command("tables", "scale=gpu", "reference=cfg")[2:] == ["--scale=gpu", "--reference=cfg"]


def test_a_sweep_alone_is_the_losses_at_scale_cpu():
    assert command("sweep")[3:] == ["run", "losses", "--scale", "cpu", "--data", "phantom"]
    assert command("reproduce")[-1] == "phantom,atlas"
    assert command("reproduce", "data=atlas")[-1] == "atlas"


def test_the_lines_of_the_check_of_a_new_machine_are_taken():
    """Command lines in the documentation are tested in test_docs.py."""
    text = re.sub(r"\$\w+", "place", (PROJECT / ".ci/run").read_text(encoding="utf-8"))
    lines = re.findall(r"^make [a-z][^\n#>|]*", text, re.MULTILINE)
    assert len(lines) > 3
    for line in lines:
        done = make(*shlex.split(line)[1:])
        assert done.returncode == 0, f"{line}: {done.stderr}"
