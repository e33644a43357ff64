"""Two users and one folder of runs: shared, or refused in a line that says what to set."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fake_engine
import pytest

from x2c.core.script import PROJECT

ALICE, BOB, GROUP = 1, 65534, 4242
"""Two users that every system has, and a group that both are in."""
SITE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("x2c.engine.experiment", {fake_engine.__file__!r})
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


def can_run(line: list[str], paths: str) -> bool:
    environment = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*line, "-c", "import pandas, optuna"], user=BOB, group=BOB, cwd="/", env=environment, check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture(scope="session")
def interpreter() -> tuple[str, str]:
    """A Python that everyone can run, of this version, and where it finds the packages."""
    packages = sysconfig.get_path("purelib")
    others = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    for one in filter(None, (sys.executable, others)):
        if can_run([one], packages):
            return one, packages
    pytest.skip("other users cannot run this Python")


@pytest.fixture
def place(interpreter) -> Iterator[Path]:
    """A folder that everyone reaches, with a `site` that puts the fake engine in the engine's place."""
    folder = Path(tempfile.mkdtemp(prefix="x2c-users-"))
    folder.chmod(0o755)
    (folder / "python").write_text("\n".join(interpreter))
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SITE)
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


def process(user: int, umask: int, place: Path, *line: str) -> subprocess.Popen[str]:
    interpreter, packages = (place / "python").read_text().split("\n")
    paths = [str(place / "site"), str(PROJECT), packages]
    return subprocess.Popen(
        [interpreter, *line],
        user=user,
        group=user,
        extra_groups=[GROUP],
        umask=umask,
        cwd=place / f"home-{user}",
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place / f"home-{user}"),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sweep(user: int, umask: int, place: Path, command: str = "run", *more: str) -> subprocess.CompletedProcess[str]:
    line = ["losses", "--scale", "smoke", "--runs", str(place / "runs"), f"--compute.cache={place / 'cache'}"]
    line += ["--workers", "1", "--no-tables"] if command == "run" else []
    with process(user, umask, place, "-m", "x2c.sweep", command, *line, *more) as made:
        out, error = made.communicate(timeout=400)
    return subprocess.CompletedProcess(made.args, made.returncode, out, error)


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


TRY = """
import sys
from x2c.core.errors import UserError
from x2c.sweep.plan.cells import make_plan
from x2c.sweep.queue.queue import Queue
plan = make_plan("losses", "smoke", (0,), [f"compute.runs={sys.argv[1]}"])
for name in sys.argv[2].split(","):
    sys.stdin.readline()
    try:
        Queue(plan, create=True)
        print("opened", flush=True)
    except UserError as error:
        print(error, flush=True)
"""
NAMES = (".sweeps.lock", "sweeps.db", "logs", "stages", ".claims")


def test_each_thing_that_is_another_s_alone_is_named(place, runs):
    with process(BOB, 0o002, place, "-c", TRY, str(runs), ",".join([*NAMES, "none"])) as bob:
        for name in NAMES:
            path = runs / name
            path.touch() if name in NAMES[:2] else path.mkdir()
            os.chown(path, ALICE, GROUP)
            path.chmod(0o755)
            bob.stdin.write("\n")
            bob.stdin.flush()
            assert bob.stdout.readline().startswith(f"{path}: expected a "), bob.stderr.read()
            path.unlink() if path.is_file() else path.rmdir()
        out, error = bob.communicate("\n", timeout=300)
        assert out == "opened\n", error
