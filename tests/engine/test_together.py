"""Two processes that train one run together."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked_training import Training
from same_training import assert_same_training

from x2c.core.config import Config
from x2c.core.files import read_json
from x2c.engine.experiment import run, run_directory
from x2c.engine.reporting import Reporter
from x2c.losses.terms import L1
from x2c.sweep.verify.compare import compare

SHORT = "stages.xray.steps=3"


def both(
    config: Config, folder: Path, first: Callable[[], None] | None = None, ranks: str = "1"
) -> tuple[list[int], list[str]]:
    """Train in two processes; `first` is called in those of `ranks`. Returns their exit codes and standard errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
    arguments = [f"--variant={config.variant}", "--scale=smoke", *places, f"--{SHORT}"]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        Training(
            arguments,
            folder / f"said-{rank}",
            environment={**common, "RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "test"},
            first=first if rank in ranks else None,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate()[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


@pytest.fixture
def begun(smoke_config, smoke_run, copy_of_run, tmp_path) -> Callable[[str], Config]:
    """Makes configs of l1_adv whose last stage is still to be trained, in a folder of that name."""

    def make(name: str) -> Config:
        copy_of_run(smoke_run("l1_adv"), tmp_path / name, begun=True)
        return smoke_config("l1_adv", SHORT, f"compute.runs={tmp_path / name}")

    return make


def after_step(number: int, act: Callable[[], None]) -> None:
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if step == number:
            act()

    Reporter.step = step


def stop_in_step_2() -> None:
    after_step(2, lambda: signal.raise_signal(signal.SIGTERM))


def die_in_step_3() -> None:
    after_step(3, lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_two_train_what_one_does_and_stop_at_the_same_step_whichever_was_asked(begun, tmp_path):
    """`batch_size` is the sum over processes, so equal run ids mean equal results."""
    config = begun("calm")
    codes, said = both(config, tmp_path)
    assert codes == [0, 0], said
    single = run(begun("single"))
    assert single.path.name == run_directory(config).path.name
    assert_same_training(single.path, run_directory(config).path)

    config = begun("stopped")
    codes, said = both(config, tmp_path, stop_in_step_2)
    assert codes == [75, 75], said
    assert all("stopped by SIGTERM after step 2 of 3" in each for each in said), said
    (checkpoint,) = (tmp_path / "stopped").glob("stages/*/checkpoints/step-*")
    status = read_json(checkpoint.parents[1] / "status.json")
    assert (status["state"], status["step"], checkpoint.name) == ("interrupted", 2, "step-0000002")
    assert (checkpoint / "random_states_1.pkl").exists()
    codes, said = both(config, tmp_path)
    assert codes == [0, 0], said

    killed = begun("killed")
    assert both(killed, tmp_path, die_in_step_3, ranks="01")[0] == [-signal.SIGKILL] * 2
    codes, said = both(killed, tmp_path)
    assert codes == [0, 0], said
    for name in ("stopped", "killed"):
        for item in compare(tmp_path / "calm", tmp_path / name):
            assert not item.differences, item


def break_in_step_3() -> None:
    original, calls = L1.__call__, []

    def broken(self, step):
        calls.append(1)
        return original(self, step) * (torch.nan if len(calls) == 3 else 1)

    L1.__call__ = broken


def test_a_loss_that_is_not_finite_on_one_process_ends_all_with_its_name(begun, tmp_path):
    config = begun("runs")
    codes, said = both(config, tmp_path, break_in_step_3)
    assert all(codes), said
    status = run_directory(config).status()
    assert status["state"] == "failed"
    assert re.search(r"step 3: loss term l1 is not finite; lower --stages\.xray\.learning_rate", status["reason"])
