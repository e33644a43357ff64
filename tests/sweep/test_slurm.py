"""Sweeps on a real Slurm of one node, with a fake engine: told to leave, preempted, cancelled, crashed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import yaml
from services.postgres import PASSWORD
from test_cli import SITE
from test_cli import command as forked
from test_queue import wait_for

from x2c.core.machine import STORAGE
from x2c.core.script import PROJECT
from x2c.sweep.queue.state import Snapshot
from x2c.sweep.run import slurm
from x2c.sweep.run.cluster import Cluster

RESOURCES = {"hours": 0.5, "workers": 2, "memory_gb": 0.5, "signal_seconds": 60, "crashes": 1}
PATIENCE = 90.0


def command(tmp_path, *arguments, environment=None):
    """`python -m x2c.sweep ...` with the fake engine, in it and in the jobs, which are started by the interpreter."""
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join([str(tmp_path / "site"), str(PROJECT)])
    return forked(tmp_path, *arguments, environment={**(environment or {}), "PYTHONPATH": paths})


@pytest.fixture
def resources(tmp_path):
    """Write a file of resources; returns its path."""

    def write(**changes):
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump({**RESOURCES, **changes}))
        return str(path)

    return write


@pytest.fixture
def detached(slurm, database, resources, tmp_path):
    """Submit the sweep `losses` and leave it to Slurm; returns what was printed."""

    def run(*options, workers=1, **changes):
        line = ["run", "losses", "--scale", "smoke", "--storage", database, "--executor", "slurm", "--detach"]
        process = command(tmp_path, *line, *options, "--workers", str(workers), "--cluster", resources(**changes))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out

    return run


def states(tmp_path):
    """The state of every cell of the sweep `losses`, by its name."""
    out, _ = command(tmp_path, "status", "losses", "--scale", "smoke", "--json").communicate(timeout=60)
    return {cell["cell"]: cell["state"] for cell in json.loads(out)["cells"]}


def logs(tmp_path):
    return "".join(path.read_text() for path in sorted((tmp_path / "runs/logs/slurm").glob("*.out")))


def once_each(ran):
    """Whether every run of the sweep `losses` was started once."""
    return len(ran) == len(set(ran)) == 5


def test_an_array_of_workers_drains_the_queue_once_and_writes_no_password(slurm, postgres, resources, tmp_path, ran):
    url = postgres.guarded_database().render_as_string(hide_password=False)
    # Clusters may be set to keep the environment out of jobs.
    environment = {STORAGE: url, "SBATCH_EXPORT": "NONE"}
    line = ["run", "losses", "--scale", "smoke", "--executor", "slurm", "--cluster", resources()]
    process = command(tmp_path, *line, environment=environment)
    out, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, err + logs(tmp_path)
    assert "2 jobs submitted, 0 were there, as x2c-losses-" in out
    assert "losses: 5 of 5 done" in out
    assert "l1 s0: done in" in err
    assert once_each(ran())
    scripts = [path.read_text() for path in (tmp_path / "runs/logs/slurm").glob("*.sh") if not path.is_symlink()]
    assert len(scripts) == 1 and "--array=0-1%2" in scripts[0], "one array"
    assert "--signal=USR1@60" in scripts[0] and "--time=30" in scripts[0], "it is told to leave before its time is over"
    assert logs(tmp_path).count("no cell waits") == 2, "both took part, and both ended by themselves"
    written = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    for secret in (PASSWORD, quote(PASSWORD, safe=""), url):
        assert secret not in out + err and not [data for data in written if secret.encode() in data]


def test_a_job_told_to_leave_or_preempted_comes_back_and_one_cancelled_stays_away(
    detached, slurm, tmp_path, behave, ran
):
    behave(l1="wait", l1_lpips="wait", l1_adv="wait")
    out = detached(partition="main")
    wait_for(lambda: len(ran()) == 1, PATIENCE)
    (job,) = slurm.jobs()
    assert "Requeue=1" in slurm.command("scontrol", "show", "job", job)
    slurm.command("scancel", "--signal=USR1", job)
    wait_for(lambda: "goes back into the queue" in logs(tmp_path), PATIENCE)
    # A cell that was left waits behind the others.
    wait_for(lambda: len(ran()) == 2, PATIENCE)
    rush = ["--partition=rush", "--exclusive", "--mem=10", f"--output={tmp_path}/rush.log"]
    slurm.command("sbatch", *rush, f"--wrap=touch {tmp_path}/rush; sleep 1")
    wait_for((tmp_path / "rush").exists, PATIENCE)
    assert slurm.jobs()[job] == "PENDING"
    wait_for(lambda: len(ran()) == 3, PATIENCE)
    back = logs(tmp_path).count("goes back")
    behave(l1_lpips="wait")
    wait_for(lambda: len(ran()) == 7, PATIENCE)
    (cancel,) = re.findall(r"scancel --name=\S+", out)
    slurm.command(*cancel.split())
    wait_for(lambda: not slurm.jobs(), PATIENCE)
    assert "stopped" in logs(tmp_path) and logs(tmp_path).count("goes back") == back
    again = {run.partition("-")[0] for run in ran() if ran().count(run) == 2}
    assert again == {"l1", "l1_lpips"} and len(set(ran())) == 5
    assert [cell for cell, state in states(tmp_path).items() if state != "done"] == ["l1_lpips s0"]
    assert states(tmp_path)["l1_lpips s0"] == "interrupted"


def test_a_job_has_as_many_workers_as_its_gpus_have_room_for(detached, slurm, tmp_path, behave, ran):
    variants = ("l1", "l1_lpips")
    behave(**dict.fromkeys(variants, "wait"))
    assert "1 jobs submitted" in detached(workers=2, gpus=2, memory_gb=0.2)
    wait_for(lambda: len(ran()) == 2, PATIENCE)
    (tmp_path / "runs/go").touch()
    wait_for(lambda: not slurm.jobs(), PATIENCE)
    assert once_each(ran())
    text = logs(tmp_path)
    told = [re.search(rf"{name}-smoke-\S+: on GPU (\S+)", text)[1] for name in variants]
    assert sorted(told) == ["0", "1"]


def test_a_worker_that_crashes_comes_back_a_few_times(detached, slurm, tmp_path):
    # Python does not even start.
    detached(setup=["export PYTHONHOME=/nowhere"])
    wait_for(lambda: not slurm.jobs(), PATIENCE)
    (crashes,) = (tmp_path / "runs/logs/slurm").glob("*.crashes")
    assert len(crashes.read_text().split()) == 2, "the first time, and once more"


def test_the_same_command_finds_its_workers(detached, slurm):
    # In the places of workers.
    waiting = {"setup": ["sleep 600"]}
    assert "1 jobs submitted, 0 were there" in detached(workers=1, **waiting)
    assert "0 jobs submitted, 1 were there" in detached(workers=1, **waiting)
    assert "1 jobs submitted, 1 were there" in detached(workers=2, **waiting)
    assert len(slurm.jobs()) == 2


def test_what_slurm_refuses_is_one_line(slurm, database, resources, tmp_path):
    line = ["run", "losses", "--scale", "smoke", "--storage", database, "--executor", "slurm"]
    process = command(tmp_path, *line, "--cluster", resources(partition="nowhere"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: --executor slurm: expected sbatch to accept the jobs;")
    assert "Invalid partition" in last and "Traceback" not in err


STUBS = {
    "squeue": '[ "$(cat away)" -gt 0 ] && { echo $(($(cat away) - 1)) > away; exit 1; }; cat state',
    "scontrol": 'echo "$@" >> asked',
    "sleep": 'echo "$@" >> slept',
}


@pytest.fixture
def end_of_job(tmp_path):
    """Run the end of a job's script after a worker that ended with `code`; returns what scontrol was asked."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def end(code, state="RUNNING", away=0, crashes=1):
        (tmp_path / "state").write_text(state)
        (tmp_path / "away").write_text(str(away))
        (tmp_path / "asked").write_text("")
        tail = slurm.BACK_INTO_THE_QUEUE.format(folder=tmp_path, crashes=crashes)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "12",
            "SLURM_ARRAY_TASK_ID": "3",
        }
        done = subprocess.run(["bash", "-c", f"(exit {code})\n{tail}"], cwd=tmp_path, env=environment, timeout=60)
        assert done.returncode == code
        return (tmp_path / "asked").read_text()

    return end


@pytest.mark.parametrize("code", [75, 130, 138, 143])
def test_a_job_that_was_told_to_leave_or_has_no_database_comes_back_every_time(end_of_job, code):
    for _ in range(4):
        assert end_of_job(code) == "requeue 12_3\n"


@pytest.mark.parametrize("code", [1, 2, 137, 139])
def test_a_job_that_ended_with_an_error_comes_back_a_few_times(end_of_job, code):
    assert [end_of_job(code) for _ in range(3)] == ["requeue 12_3\n", "", ""]


def test_a_job_without_a_cell_or_that_was_cancelled_stays_away(end_of_job):
    assert end_of_job(0) == end_of_job(75, state="COMPLETING") == ""


def test_a_controller_that_does_not_answer_is_asked_again(end_of_job, tmp_path):
    assert end_of_job(75, away=3) == "requeue 12_3\n"
    assert (tmp_path / "slept").read_text().split() == ["0", "5", "15", "30"]


def test_what_a_job_is_told_where_the_environment_is_kept_out(monkeypatch):
    def handed_on(**sbatch):
        return slurm.exported(Cluster(hours=1, workers=1, memory_gb=1, sbatch=sbatch)).get("SBATCH_EXPORT")

    monkeypatch.delenv("SBATCH_EXPORT", raising=False)
    monkeypatch.delenv(STORAGE, raising=False)
    assert handed_on(export="NONE") is None, "there is nothing to tell"
    monkeypatch.setenv(STORAGE, "postgresql://h/x")
    assert handed_on() is handed_on(export="ALL,A=1") is None
    assert handed_on(export="NONE") == STORAGE
    assert handed_on(export="HOME,A=1") == f"HOME,A=1,{STORAGE}"
    monkeypatch.setenv("SBATCH_EXPORT", "NIL")
    assert handed_on() == STORAGE


def test_a_failed_cell_does_not_keep_jobs_that_wait(monkeypatch):
    """Its worker may yet put it back: only then does it wait in the queue."""
    held, given_up = Snapshot("failed", silence=0.5), Snapshot("failed")
    looks = [(held, 0), (given_up, 1), (given_up, 0)]

    class View:
        cells, shots = (), {}

        def update(self):
            shot, self.waiting = looks.pop(0)
            self.shots = {"a": Snapshot("done"), "b": shot}

        def note(self, text):
            """What is said of jobs is another test's."""

    view, ended = View(), []
    monkeypatch.setattr(slurm, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "jobs", lambda name: ["pending priority"])
    monkeypatch.setattr(slurm.subprocess, "run", ended.append)
    slurm.watch(view, SimpleNamespace(waiting=lambda cells: view.waiting, current=lambda cells: cells), "x2c-s")
    assert looks == []
    assert [line[0] for line in ended] == ["scancel"] and "--state=PENDING" in ended[0]
