"""The command line, and a whole sweep from one command, with a fake engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fake_engine
import pytest
from forked_sweep import Forked

from x2c.core import stopping
from x2c.core.errors import UserError
from x2c.core.machine import STORAGE
from x2c.core.resolve import scales
from x2c.core.script import PROJECT
from x2c.sweep.__main__ import main
from x2c.sweep.options import parse, same_plan
from x2c.sweep.plan.cells import make_plan, sweeps
from x2c.sweep.queue import retries
from x2c.sweep.queue.state import snapshot
from x2c.sweep.run import crew
from x2c.sweep.run.processes import worker_arguments

SITE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("x2c.engine.experiment", {fake_engine.__file__!r})
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
"""


def command(tmp_path, *arguments, environment=None):
    """`python -m x2c.sweep ...` with the fake engine, in it and in its workers, without their imports."""
    line = [sys.executable, "-m", "x2c.sweep", *arguments]
    environment = {**os.environ, **(environment or {})}
    return Forked(line, fake_engine, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def program(tmp_path, *arguments):
    """The same by the interpreter, as a user starts it."""
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(tmp_path / "site"), str(PROJECT)])
    environment = {**os.environ, "PYTHONPATH": path}
    line = [sys.executable, "-m", "x2c.sweep", *arguments]
    return subprocess.Popen(
        line, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_help_imports_nothing_heavy():
    script = (
        "import runpy, sys\n"
        "try: runpy.run_module('x2c.sweep', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'optuna', 'pandas', 'numpy', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["--help"], ["run", "--help"], ["verify-resume", "--help"], ["dashboard", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=PROJECT, capture_output=True, text=True)
        assert (done.stderr.splitlines()[-1], "usage: python -m x2c.sweep" in done.stdout) == ("[]", True)


def test_help_says_a_line_about_every_sweep(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    for name in (*sweeps(), *scales()):
        assert len(said[name].split()) > 3, name
    assert said["losses"].endswith("The loss rows of the paper's Table 2.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "rnu losses",
            "expected a known command; got 'rnu'; did you mean 'run'? choices: dashboard, plan, reproduce, retry, run, status, verify-resume, worker",
        ),
        (
            "run",
            "NAME: expected the name of a sweep; got none; choices: ablation, beyond, lidc, loss_terms, loss_weights, losses",
        ),
        ("run losses --worker 2", "expected a known option; got --worker; did you mean --workers?"),
        ("run losses --workers two", "--workers: expected a whole number, 1 or more; got 'two'"),
        ("run losses --workers 0", "--workers: expected a whole number, 1 or more; got '0'"),
        (
            "run losses --seeds 0;1",
            "--seeds: expected whole numbers separated by commas, such as 0,1,2; got '0;1'",
        ),
        ("run losses --seeds ²", "--seeds: expected whole numbers separated by commas, such as 0,1,2; got '²'"),
        (
            "plan losses --seeds 0,2147483648",
            "--seeds: expected a whole number from 0 to 2147483647; got '2147483648'",
        ),
        ("run losses --seed 1", "expected a known option; got --seed; did you mean --seeds?"),
        ("run losses --variant l1", "expected a known option; got --variant; "),
        ("run losses --executor lsf", "--executor: expected a known choice; got 'lsf'"),
        ("plan losses --storage x.db", "expected a known option; got --storage"),
        (
            "run losses --engine wnadb",
            "expected a known choice; got 'wnadb'; did you mean 'wandb'? choices: optuna, wandb",
        ),
        ("run losses --engine wandb --storage x.db", "--storage: W&B's engine keeps its queue on its server; leave"),
        ("plan losses --engine wandb", "expected a known option; got --engine"),
        ("run losses extra", "unexpected argument 'extra'"),
    ],
)
def test_a_wrong_line_is_one_clear_line(line, message):
    with pytest.raises(UserError) as error:
        parse(line.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_user_error_ends_with_code_2(tmp_path):
    process = program(tmp_path, "plan", "loses")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: NAME: expected a known sweep; got 'loses'; did you mean 'losses'?")
    assert err.count("\n") == 1


def test_a_worker_gets_the_arguments_of_its_supervisor():
    line = "run losses --scale smoke --seeds 1,2 --data phantom --runs r --tracker none --stages.xray.steps=3"
    _, options, overrides = parse(line.split())
    _, again, same = parse(["worker", *same_plan(options, overrides)])
    places = ["compute.tracker=[]", 'compute.runs="r"']
    assert same == overrides == ['data="phantom"', "stages.xray.steps=3", *places]
    assert (again.name, again.scale, again.seeds) == ("losses", "smoke", (1, 2))


def test_a_worker_s_password_is_neither_in_its_arguments_nor_in_those_that_trackers_write_down(monkeypatch):
    url, seen = "postgresql+psycopg://me:secret@h/x", []
    monkeypatch.setattr(
        "x2c.sweep.run.worker_command.work", lambda plan, cells, storage, _: seen.append((storage, sys.argv)) or 0
    )
    assert sweep(monkeypatch, f"worker losses --scale smoke --seeds 1 --storage {url}") == 0
    monkeypatch.setenv(STORAGE, url)
    assert sweep(monkeypatch, "worker losses --scale smoke --seeds 1") == 0
    line = ["x2c.sweep", "worker", "losses", "--scale", "smoke", "--seeds", "1"]
    assert seen == [(url, line), (url, line)]
    assert parse(["run", "losses", "--storage", "sqlite:///a.db"])[1].storage == "sqlite:///a.db", "the option wins"
    assert parse(["run", "losses", "--engine", "wandb"])[1].storage == url, "which W&B's engine has no use for"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "--training.weight_decay=0.5",
            "losses: the code or the data changed since this sweep was planned; start it again",
        ),
        ("--cells l1-smoke-s0-0", "--cells: expected a known run; got 'l1-smoke-s0-0'; did you mean 'l1-smoke-s0-"),
    ],
)
def test_a_worker_of_other_cells_than_were_planned_says_so(monkeypatch, more, message):
    planned = make_plan("losses", "smoke").fingerprint
    with pytest.raises(UserError) as error:
        sweep(monkeypatch, f"worker losses --scale smoke --plan {planned} {more}")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("option", ["--lock", "--json"])
def test_a_search_has_no_cells_to_lock_or_to_list(monkeypatch, option):
    with pytest.raises(UserError, match=f"^{option}: applies to grids only; a search draws its cells at run time"):
        sweep(monkeypatch, f"plan loss_weights --scale smoke {option}")


@pytest.fixture
def fake_workers(tmp_path, monkeypatch):
    """Run with the fake engine here and in the workers, in a folder of its own."""
    monkeypatch.setitem(sys.modules, "x2c.engine.experiment", fake_engine)
    monkeypatch.setattr(crew, "subprocess", SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL))
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def sweep(monkeypatch, line):
    monkeypatch.setattr(sys, "argv", ["x2c.sweep", *line.split()])
    return main()


def test_killed_raised_and_unprepared_cells_then_a_retry(fake_workers, monkeypatch, capsys, behave, ran):
    monkeypatch.setattr(retries, "MOST_DEATHS", 2)
    behave(l1_lpips="die", l1_adv="raise", l1_lpips_adv="unprepared")
    assert sweep(monkeypatch, "run losses --scale smoke --workers 1") == 1
    out, err = capsys.readouterr()
    assert "losses: 2 of 5 done · 3 failed" in out
    assert "worker 1 died (signal 9) at l1_lpips s0" in err and "its worker was killed; it waits again" in err
    assert "l1_lpips s0: failed in train 3/10: its worker was killed, 2 times without a checkpoint in between" in err
    assert "l1_adv s0: failed in train 3/10: ValueError: the loss is not finite" in err
    assert "l1_lpips_adv s0: failed: RuntimeError: no data" in out
    assert len(ran()) == 5
    log = next(Path("runs").glob("l1_lpips-*/error.log")).read_text()
    assert "its worker was killed; the end of its log" in log and "l1_lpips s0: running as" in log

    assert sweep(monkeypatch, "status losses --scale smoke --json") == 0
    states = {cell["cell"]: cell["state"] for cell in json.loads(capsys.readouterr().out)["cells"]}
    done = ["l1 s0", "l1_cls s0"]
    assert states == {name: "done" if name in done else "failed" for name in states} and len(states) == 5

    behave()
    assert sweep(monkeypatch, "retry losses --scale smoke --workers 1") == 0
    assert len(ran()) == 8
    assert "losses: 3 of 3 done" in capsys.readouterr().out
    assert sweep(monkeypatch, "run losses --scale smoke") == 0
    assert len(ran()) == 8


def test_tables_are_left_out_where_that_is_asked_for(fake_workers, monkeypatch, capsys, behave):
    from analysis import figures, tables

    shown = []
    monkeypatch.setattr(tables, "main", lambda where: shown.append(("tables", where[3])))
    monkeypatch.setattr(figures, "main", lambda where: shown.append(("figures", where[3])))
    behave()
    line = "run losses --scale smoke --workers 1 --out made"
    assert sweep(monkeypatch, f"{line} --no-tables") == 0
    assert "losses: 5 of 5 done" in capsys.readouterr().out and shown == []
    assert sweep(monkeypatch, line) == 0
    assert shown == [("tables", "made"), ("figures", "made")]


def test_workers_of_another_plan_are_given_up(fake_workers, monkeypatch, capsys, ran):
    """As when experiments/ is edited after the sweep was planned: in the place of that, workers are given one field more."""
    starts, start = [], crew.Crew._start

    def few(self, number):
        starts.append(number)
        assert len(starts) <= crew.MOST_CRASHES, "workers are started for ever"
        return start(self, number)

    monkeypatch.setattr(crew, "worker_arguments", lambda *of: [*worker_arguments(*of), "--training.weight_decay=0.5"])
    monkeypatch.setattr(crew.Crew, "_start", few)
    assert sweep(monkeypatch, "run losses --scale smoke --workers 1") == 1
    out, err = capsys.readouterr()
    assert "losses: 0 of 5 done · 5 to do" in out and ran() == []
    assert err.count("worker 1 died (exit code 2) without a cell: error: losses: the code or the data changed") == 3


def test_ctrl_c_stops_the_workers_and_leaves_the_cell_to_go_on(tmp_path, behave):
    behave(l1="slow")
    cell = make_plan("losses", "smoke", overrides=[f"compute.runs={tmp_path / 'runs'}"]).cells[0]
    process = program(tmp_path, "run", "losses", "--scale", "smoke", "--workers", "1")
    deadline = time.monotonic() + 60
    # Not only started: a cell that is stopped before its first word is `to do`.
    while cell.run.status().get("state") != "running":
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "rerun the same command to resume" in err
    assert snapshot(cell).state == "interrupted"
