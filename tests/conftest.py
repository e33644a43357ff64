"""What tests share: a cache of the smallest data set and its frozen parts, made once for all test processes."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from x2c.core import stopping
from x2c.core.config import Config
from x2c.core.parallel import shares_of_cores
from x2c.core.resolve import read_config, resolve
from x2c.core.run import RunDirectory
from x2c.core.script import idle_environment

torch.set_num_threads(1)
# For the programs that tests start; of this process the threads are set above.
os.environ.update(idle_environment())
CORES = os.sched_getaffinity(0)
pytest_plugins = ["services.network", "services.postgres", "services.slurm"]


def pytest_configure(config: pytest.Config) -> None:
    """Keep each of pytest-xdist's processes, and all that its tests start, to cores of its own.

    Two that train with as many threads as there are cores wait for each other. And let Ctrl-C reach what tests start: a
    shell has it ignored by what it starts in the background, and they would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    about: dict[str, str] | None = getattr(config, "workerinput", None)
    if about is not None:
        count = int(about["workercount"])
        # A process that takes the place of a killed one has a number beyond them.
        os.sched_setaffinity(0, shares_of_cores(count)[int(about["workerid"].removeprefix("gw")) % count])


def pytest_collection_finish() -> None:
    """Leave what the imports made out of garbage collection: Accelerate collects after every stage of a training."""
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How hard `make chaos` tries."""
    group = parser.getgroup("chaos")
    group.addoption("--chaos-cells", type=int, default=10, help="cells of the sweep")
    group.addoption("--chaos-workers", type=int, default=3, help="its workers")
    group.addoption("--chaos-every", type=float, default=0.7, help="mean seconds between two kills")
    group.addoption("--chaos-seed", type=int, default=0, help="seed of what happens")
    group.addoption("--chaos-real", action="store_true", help="train real networks (half an hour)")


@pytest.fixture(autouse=True)
def handlers_of_signals():
    """A test leaves the handlers of signals as it found them, and no request to stop."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    stopping.clear_request()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def all_cores():
    """Every core, for a test of many processes at once, which would starve each other on one."""
    share = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, share)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine without network, weights or caches but the test's own."""
    from x2c.core import hub

    monkeypatch.delenv("X2C_WEIGHTS", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.answers.cache_clear()
    yield
    hub.answers.cache_clear()


@pytest.fixture(scope="session")
def smoke_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that pytest-xdist's processes share; building in it is locked."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if base.name.startswith("popen-") else base) / "smoke-cache"


@pytest.fixture(scope="session")
def smoke_run(smoke_cache: Path) -> Callable[..., RunDirectory]:
    """Returns a variant's run at scale `smoke`, trained once for all test processes: to be read, never changed."""

    def trained(variant: str = "l1", *overrides: str) -> RunDirectory:
        from x2c.engine.experiment import run

        places = [f"compute.cache={smoke_cache}", f"compute.runs={smoke_cache.with_name('smoke-runs')}"]
        return run(resolve(variant, "smoke", 0, [*places, "compute.tracker=[]", *overrides]))

    return trained


@pytest.fixture(scope="session")
def copy_of_run() -> Callable[..., Path]:
    """Copies a run, its stages and its baselines to another folder of runs, and returns that folder.

    With `begun`, as the run was before its last stage began: training in that folder begins with this stage.
    """

    def copy(run: RunDirectory, runs: Path, *, begun: bool = False) -> Path:
        from x2c.engine.baselines import BASELINES, baseline_directory
        from x2c.engine.identity import planned_stages

        config = read_config(run.path / "config.yaml")
        stages = [planned.directory.path for planned in planned_stages(config)]
        # Runs of other sizes have baselines of their own beside them.
        baselines = [baseline_directory(config, name).path for name in BASELINES]
        whole = [*stages[: -1 if begun else None], *baselines, *([] if begun else [run.path])]
        for folder in whole:
            shutil.copytree(folder, runs / folder.relative_to(run.path.parent), dirs_exist_ok=True)
        return runs

    return copy


@pytest.fixture
def smoke_config(smoke_cache: Path, tmp_path: Path):
    """Makes configs at scale `smoke` whose runs go to the test's own folder."""

    def make(variant: str = "l1", *overrides: str, seed: int = 0) -> Config:
        places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path / 'runs'}", "compute.tracker=[]"]
        return resolve(variant, "smoke", seed, [*places, *overrides])

    return make


@pytest.fixture(scope="session")
def smoke_parts(smoke_cache: Path):
    """The frozen parts at scale `smoke`."""
    from x2c.engine.parts import open_parts

    return open_parts(resolve("full", "smoke", 0, [f"compute.cache={smoke_cache}"]))
