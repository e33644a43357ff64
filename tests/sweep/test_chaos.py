"""A sweep in which workers are killed and put to sleep, the database goes away and the disk is full for a while.

It ends as a calm one does, by itself. `make chaos workers=8 cells=200 every=1` turns it up; `real=1` trains real networks.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import chaos_engine
import pytest
from forked_sweep import Forked
from test_postgres import trials

from x2c.core.script import PROJECT
from x2c.sweep.plan.cells import make_plan

LEASE = 5.0
DISK_MB = 96
FULL_SECONDS = 2.0
MOST_KILLED = 10
"""Workers killed before a further cell ends. A supervisor gives up after twenty, and on a busy machine that many can be
killed before one has loaded its libraries."""
VARIANTS = 5
COMPARED = (
    "scores.parquet",
    "config.yaml",
    "denoiser.json",
    "denoiser.safetensors",
    "metrics.jsonl",
    "set_scores.json",
)


class Scene:
    """A place for one sweep: its folder, its database, and what is done to it."""

    def __init__(self, folder: Path, settings, storage: str | None = None, step: float = 0.0) -> None:
        self.folder, self.settings, self.storage, self.step = folder, settings, storage, step
        self.log = folder.parent / f"{folder.name}.log"
        seeds = ",".join(map(str, range(-(-settings.cells // VARIANTS))))
        self.line = [
            "losses",
            "--scale",
            "smoke",
            "--seeds",
            seeds,
            f"--compute.lease_seconds={LEASE}",
            "--runs",
            "runs",
        ]
        folder.mkdir(parents=True, exist_ok=True)
        if settings.real:
            self.line += [f"--compute.cache={settings.cache}", "--tracker", "none"]

    def start(self, workers: int):
        line = [sys.executable, "-m", "x2c.sweep", "run", *self.line, "--workers", str(workers)]
        line += ["--storage", self.storage] if self.storage else []
        environment = {**os.environ, "X2C_CHAOS_STEP": str(self.step), "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as stream:
            if not self.settings.real:
                return Forked(line, chaos_engine, cwd=self.folder, env=environment, stdout=stream, stderr=stream)
            environment["PYTHONPATH"] = str(PROJECT)
            return subprocess.Popen(line, cwd=self.folder, env=environment, stdout=stream, stderr=stream)

    def plan(self):
        seeds = tuple(map(int, self.line[4].split(",")))
        return make_plan("losses", "smoke", seeds, [f"compute.runs={self.folder / 'runs'}"])

    def done(self) -> int:
        return sum(b'"state": "done"' in read(path) for path in (self.folder / "runs").glob("*/status.json"))

    def results(self) -> dict[str, bytes]:
        """What a sweep leaves that is the same in every one of the same cells, by path."""
        runs = self.folder / "runs"
        found = {str(path.relative_to(runs)): path for name in COMPARED for path in runs.rglob(name)}
        return {name: path.read_bytes().replace(str(self.folder).encode(), b"") for name, path in found.items()}


def read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def children(parent: int) -> list[int]:
    """The living processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


class Weather:
    """What happens to a sweep while it runs."""

    def __init__(self, scene: Scene, sweep, postgres, *, small: bool) -> None:
        self.scene, self.sweep, self.postgres, self.small = scene, sweep, postgres, small
        self.chance = random.Random(scene.settings.seed)
        self.happened: Counter[str] = Counter()
        self.killed_since = (0, 0)
        """The number of cells that had ended, and the workers killed since then."""
        self.to_come = [(0.2, self.restart), (0.4, self.fill), (0.6, self.put_to_sleep)]

    def rage(self) -> None:
        """Until the sweep ends by itself."""
        cells, deadline = self.scene.settings.cells, time.monotonic() + self.scene.settings.patience
        while self.sweep.poll() is None:
            assert time.monotonic() < deadline, f"not over after {self.scene.settings.patience} s: {self.tail()}"
            time.sleep(self.scene.settings.every * self.chance.uniform(0.5, 1.5))
            if self.to_come and self.scene.done() >= self.to_come[0][0] * cells:
                self.to_come.pop(0)[1]()
            self.kill()

    def kill(self) -> None:
        done, (before, killed) = self.scene.done(), self.killed_since
        killed = killed if done == before else 0
        workers = children(self.sweep.pid)
        if workers and killed < MOST_KILLED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(workers), signal.SIGKILL)
                self.happened["killed"] += 1
                killed += 1
        self.killed_since = (done, killed)

    def restart(self) -> None:
        self.postgres.restart()
        self.happened["database restarted"] += 1

    def fill(self) -> None:
        if not self.small:
            return
        fat = self.scene.folder / "fat"
        with contextlib.suppress(OSError), fat.open("wb") as stream:
            for _ in range(DISK_MB):
                stream.write(bytes(1 << 20))
                stream.flush()
        time.sleep(FULL_SECONDS)
        fat.unlink()
        self.happened["disk full"] += 1

    def put_to_sleep(self) -> None:
        if workers := children(self.sweep.pid):
            sleeper = self.chance.choice(workers)
            os.kill(sleeper, signal.SIGSTOP)
            time.sleep(LEASE + 2)
            os.kill(sleeper, signal.SIGCONT)
            self.happened["put to sleep"] += 1

    def tail(self) -> str:
        return self.scene.log.read_text(errors="replace")[-3000:]


@pytest.fixture
def settings(pytestconfig, tmp_path):
    class Settings:
        cells = pytestconfig.getoption("--chaos-cells")
        workers = pytestconfig.getoption("--chaos-workers")
        every = pytestconfig.getoption("--chaos-every")
        seed = pytestconfig.getoption("--chaos-seed")
        real = pytestconfig.getoption("--chaos-real")
        patience = 3600.0 if real else 240.0 + 6 * cells
        cache = tmp_path / "cache"

    return Settings


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own that can be filled; the second value tells whether it is one."""
    folder = tmp_path / "storm"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True
    )
    small = mounted.returncode == 0
    yield folder, small
    if small:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_sweep_in_a_storm_ends_as_a_calm_one(all_cores, settings, small_disk, postgres, database, tmp_path):
    folder, small = small_disk
    small = small and not settings.real
    calm = Scene(tmp_path / "calm", settings)
    began = time.monotonic()
    assert calm.start(2).wait(settings.patience) == 0, calm.log.read_text()[-3000:]
    calm_seconds = time.monotonic() - began

    scene = Scene(folder / "s", settings, database, step=0.05)
    began = time.monotonic()
    sweep = scene.start(settings.workers)
    weather = Weather(scene, sweep, postgres, small=small)
    try:
        weather.rage()
        assert sweep.returncode == 0, weather.tail()
    finally:
        orphans = children(sweep.pid)
        sweep.kill()
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
    storm_seconds = time.monotonic() - began

    plan = scene.plan()
    seen = trials(plan, database)
    complete = Counter(t.user_attrs["run_id"] for t in seen if t.state.name == "COMPLETE")
    assert complete == Counter(cell.run_id for cell in plan.cells), "every cell ends exactly once"
    assert {t.state.name for t in seen} <= {"COMPLETE", "FAIL"}, "nothing waits or runs"
    assert not orphans
    left = list((scene.folder / "runs").rglob("*.tmp"))
    assert not left, "nothing is half written"
    expected, found = calm.results(), scene.results()
    assert found.keys() == expected.keys() and len(expected) >= 3 * len(plan.cells)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert weather.happened["killed"] >= 5 and weather.happened["database restarted"] == 1
    tries = len(seen) - len(plan.cells)
    told = ", ".join(f"{what} {count}" for what, count in weather.happened.items())
    print(f"\n{len(plan.cells)} cells, {settings.workers} workers: {told}; {tries} cells given up and taken up again")
    print(f"calm {calm_seconds:.0f} s, storm {storm_seconds:.0f} s; the same bytes in {len(expected)} files")
