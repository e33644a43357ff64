"""Two users and one folder of runs: shared, or refused in a line that says what to set."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fake_engine
import pytest
from forked_sweep import Forked
from test_queue import processes, start

from x2c.core.errors import UserError
from x2c.sweep.__main__ import main
from x2c.sweep.plan.cells import make_plan
from x2c.sweep.queue.queue import Queue
from x2c.sweep.run.worker import drain

ALICE, BOB, GROUP = 1, 65534, 4242
"""Two users that every system has, and a group that both are in."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> None:
    """Import all that a sweep needs: the interpreter's own folder may be closed to other users."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "runs").mkdir()
    plan = make_plan("losses", "smoke", (0,), [f"compute.runs={folder / 'runs'}"])
    Queue(plan, create=True).enqueue(plan.cells)
    drain(Queue(plan), plan.cells, fake_engine.run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "x2c.engine.experiment", fake_engine)
        for command, *more in (("run", "--no-tables"), ("status",), ("plan",)):
            assert main([command, "losses", "--scale", "smoke", "--runs", str(folder / "runs"), *more]) == 0


@pytest.fixture
def place(imported) -> Iterator[Path]:
    """A folder that everyone reaches."""
    folder = Path(tempfile.mkdtemp(prefix="x2c-users-"))
    folder.chmod(0o755)
    for user in (ALICE, BOB):
        home = folder / f"home-{user}"
        home.mkdir()
        os.chown(home, user, user)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def runs(place) -> Path:
    """Alice's folder for the runs, set up for the group."""
    folder = place / "runs"
    folder.mkdir()
    os.chown(folder, ALICE, GROUP)
    folder.chmod(0o2775)
    return folder


def sweep(user: int, umask: int, place: Path, command: str = "run", *more: str) -> SimpleNamespace:
    line = [command, "losses", "--scale", "smoke", "--runs", str(place / "runs"), f"--compute.cache={place / 'cache'}"]
    line += ["--workers", "1", "--no-tables"] if command == "run" else []
    home = place / f"home-{user}"
    made = Forked(
        [sys.executable, "-m", "x2c.sweep", *line, *more],
        fake_engine,
        user=user,
        extra_groups=[GROUP],
        umask=umask,
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = made.communicate(timeout=400)
    return SimpleNamespace(returncode=made.returncode, stdout=out, stderr=error)


def test_two_users_with_a_group_and_a_umask_share_a_folder(place, runs):
    (runs / "behave.json").write_text('{"l1": "raise"}')
    first = sweep(ALICE, 0o002, place)
    assert first.returncode == 1 and "4 of 5 done" in first.stdout, first.stdout + first.stderr
    (runs / "behave.json").write_text("{}")
    # With what Alice has left: database, locks, claims, leases, stages, a failed run, its log.
    second = sweep(BOB, 0o002, place, "run", "--seeds", "0,1")
    assert second.returncode == 0, second.stdout + second.stderr
    third = sweep(ALICE, 0o002, place, "run", "--seeds", "0,1")
    assert third.returncode == 0, third.stdout + third.stderr
    owners = {path.stat().st_uid for path in runs.rglob("*") if path.is_file()}
    assert owners == {ALICE, BOB, 0}, "root wrote behave.json"
    for path in runs.rglob("*"):
        if path.stat().st_uid:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert path.stat().st_gid == GROUP and mode & 0o060 == 0o060, f"{path}: {mode:o}"
    logs = list((runs / "logs").glob("*-worker-*.log"))
    assert len(logs) == 2 and len({path.stat().st_uid for path in logs}) == 2


@pytest.mark.parametrize("group_writes", [False, True])
def test_who_does_not_share_is_named_in_a_line_with_what_to_set(place, runs, group_writes):
    if not group_writes:
        runs.chmod(0o755)
    first = sweep(ALICE, 0o022, place)
    assert first.returncode == 0, first.stdout + first.stderr
    second = sweep(BOB, 0o022, place, "run", "--seeds", "0,1")
    assert second.returncode == 2
    last = second.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {runs}") and "Traceback" not in second.stdout + second.stderr, second.stderr
    for part in ("may read and write; got one of daemon", "`chmod -R g+ws", "`umask 002`", "let daemon run"):
        assert part in last
    assert second.stderr.count("error:") == 1
    for command in ("status", "plan"):
        told = sweep(BOB, 0o022, place, command)
        assert told.returncode == 0 and "done" in told.stdout, told.stderr
    subprocess.run(["chgrp", "-R", str(GROUP), runs], check=True)
    subprocess.run(["chmod", "-R", "g+ws", runs], check=True)
    mended = sweep(BOB, 0o002, place, "run", "--seeds", "0,1")
    assert mended.returncode == 0, mended.stdout + mended.stderr


NAMES = (".sweeps.lock", "sweeps.db", "logs", "stages", ".claims")


def open_as(user, plan, answers, names):
    """Open the queue as another user, once for every line that comes, and say what came of it."""
    os.setgroups([GROUP])
    os.setgid(user)
    os.setuid(user)
    os.umask(0o002)
    for _ in names:
        answers.recv()
        try:
            Queue(plan, create=True)
            answers.send("opened")
        except UserError as error:
            answers.send(str(error))


def test_each_thing_that_is_another_s_alone_is_named(runs):
    plan = make_plan("losses", "smoke", (0,), [f"compute.runs={runs}"])
    here, there = processes.Pipe()
    bob = start(open_as, BOB, plan, there, [*NAMES, "none"])

    def opened():
        here.send("now")
        assert here.poll(60)
        return here.recv()

    for name in NAMES:
        path = runs / name
        path.touch() if name in NAMES[:2] else path.mkdir()
        os.chown(path, ALICE, GROUP)
        path.chmod(0o755)
        assert opened().startswith(f"{path}: expected a ")
        path.unlink() if path.is_file() else path.rmdir()
    assert opened() == "opened"
    bob.join(60)
