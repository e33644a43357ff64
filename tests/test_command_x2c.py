"""The command `x2c`: it lists its commands, hands over to each, and names the nearest of one that does not exist."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from inspect import signature

import pytest

from x2c import __version__
from x2c.__main__ import COMMANDS, Command, main
from x2c.core.errors import UserError
from x2c.core.script import HEAVY, IDLE, PROJECT


def typed(
    *words: str, program: tuple[str, ...] = ("-m", "x2c"), **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(
        [sys.executable, *program, *words], cwd=PROJECT, env=variables, capture_output=True, text=True
    )


def test_help_lists_every_command_with_a_line_and_imports_nothing_that_takes_long():
    code = (
        "import sys; from x2c.__main__ import console; sys.argv = ['x2c', '--help']\n"
        "try: console()\n"
        f"finally: assert not {HEAVY!r} & set(sys.modules)"
    )
    done = typed(program=("-c", code))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(COMMANDS) and all(len(summary) > 10 for _, summary in lines)


def test_alone_it_helps_and_it_tells_its_version(capsys):
    assert main([]) == 0
    assert "usage: x2c COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"x2c {__version__}\n"


def test_an_unknown_command_is_told_the_nearest():
    with pytest.raises(UserError, match=r"x2c: expected a known command; got 'tabels'; did you mean 'tables'\?"):
        main(["tabels"])
    done = typed("swep")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: x2c: expected a known command; got 'swep'; did you mean 'sweep'?")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_program_that_takes_its_words(name):
    run = import_module(COMMANDS[name].module).main
    (words,) = signature(run).parameters.values()
    assert (words.name, words.default) == ("argv", None)


@pytest.mark.parametrize("name", COMMANDS)
def test_words_of_another_command_line_are_not_read(name, monkeypatch, capsys):
    """Each command is handed its words, and prints its own help."""
    monkeypatch.setattr("sys.argv", ["x2c", name, "--no-such-option"])
    with pytest.raises(SystemExit) as end:
        sys.exit(main([name, "--help"]))
    assert end.value.code == 0 and "usage: " in capsys.readouterr().out


def test_the_exit_code_is_the_programs(monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "program_of_test", type("Program", (), {"main": lambda words: seen.append(words)}))
    monkeypatch.setitem(COMMANDS, "test", Command("program_of_test", "of this test"))
    assert main(["test", "a", "--b=c"]) == 0 and seen == [["a", "--b=c"]]
    monkeypatch.setattr(sys.modules["program_of_test"], "main", lambda words: 3)
    assert main(["test"]) == 3


def test_a_wrong_option_and_nothing_to_show_are_told_as_by_the_program_itself():
    done = typed("train", "--variant", "l2")
    assert done.returncode == 2 and done.stderr.startswith("error: --variant: expected a known variant; got 'l2'")
    done = typed("tables", "--runs", "no")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "x2c tables: loading",
        "no folder no: there is nothing to show yet; run: make sweep name=losses",
    ]


def test_programs_let_idle_threads_sleep_and_leave_the_users_choice():
    code = "import os, sys; from x2c.__main__ import console; sys.argv = ['x2c']\ntry: console()\nfinally: print(os.environ['OMP_WAIT_POLICY'], os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    assert typed(program=("-c", code)).stdout.splitlines()[-1] == " ".join(IDLE.values())
    chosen = typed(program=("-c", code), OMP_WAIT_POLICY="ACTIVE").stdout.splitlines()[-1]
    assert chosen == f"ACTIVE {IDLE['OPENBLAS_THREAD_TIMEOUT']}"


def test_scripts_set_them_before_they_import_what_reads_them():
    for script in ("x2c/train.py", "x2c/sample.py", "x2c/prepare.py", "analysis/tables.py"):
        code = (
            "import os, runpy, sys\n"
            "class Watch:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name in ('torch', 'numpy'): assert 'OMP_WAIT_POLICY' in os.environ, name\n"
            f"sys.meta_path.insert(0, Watch()); sys.argv = ['{script}', '--help']\n"
            f"try: runpy.run_path('{script}', run_name='__main__')\n"
            "finally: print('set:', 'OMP_WAIT_POLICY' in os.environ)"
        )
        done = typed(program=("-c", code))
        assert done.stdout.endswith("set: True\n"), (script, done.stderr)


def test_the_console_script_is_this_function():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made = metadata.EntryPoint("x2c", project["scripts"]["x2c"], "console_scripts")
    assert made.load() is import_module("x2c.__main__").console
