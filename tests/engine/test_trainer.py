"""Training: exact resume, averaged weights, non-finite losses, checkpoints."""

from __future__ import annotations

import math
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from forked_training import Training
from safetensors.torch import load_file
from same_training import assert_same_training, losses

from x2c.core.config import EMA
from x2c.core.errors import UserError
from x2c.core.listening import Pruned, on_validation
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory
from x2c.engine.experiment import run, run_directory
from x2c.engine.reporting import Reporter
from x2c.engine.trainer import NonFiniteLoss, averages, updates

STEPS = {"rspect": 4, "drr": 3, "xray": 8}
ONE_STAGE = ("stages.order=[xray]", "stages.xray.steps=3")


def test_a_run_is_whole_and_a_second_call_does_nothing(smoke_run):
    directory = smoke_run("full")
    assert directory.done
    for name in ("config.yaml", "provenance.json", "denoiser.safetensors", "scores.parquet", "set_scores.json"):
        assert (directory.path / name).exists(), name
    lines = [line for line in losses(directory.path) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, sum(STEPS.values()) + 1))
    assert [line["stage"] for line in lines] == [name for name, steps in STEPS.items() for _ in range(steps)]
    assert {"loss", "loss/l1", "loss/lpips", "loss/adv", "loss/cls", "loss/discriminator"} <= lines[-1].keys()
    assert "loss/lpips" not in lines[0], "what rows share is trained with L1 alone"
    before = (directory.path / "scores.parquet").stat().st_mtime_ns
    assert smoke_run("full").path == directory.path
    assert (directory.path / "scores.parquet").stat().st_mtime_ns == before


def test_a_killed_run_ends_in_the_same_weights_and_scores(smoke_config, smoke_run, copy_of_run, tmp_path):
    """kill -9 in the middle; the same command again; bit for bit what an uninterrupted run gives."""
    calm = smoke_run("l1_adv")
    config = smoke_config("l1_adv")
    path = run_directory(config).path
    copy_of_run(calm, path.parent, begun=True)
    places = [f"--compute.cache={config.compute.cache}", f"--runs={config.compute.runs}", "--tracker=none"]
    process = Training(["--variant=l1_adv", "--scale=smoke", *places], tmp_path / "said", first=die_in_step_5)
    assert process.wait() == -signal.SIGKILL, process.communicate()
    assert not (path / "scores.parquet").exists()
    assert list(path.parent.glob("stages/xray-*/checkpoints/step-*"))
    run(config)
    for name, value in load_file(calm.path / "denoiser.safetensors").items():
        assert torch.equal(value, load_file(path / "denoiser.safetensors")[name]), name
    assert losses(path) == losses(calm.path)
    assert (path / "set_scores.json").read_text() == (calm.path / "set_scores.json").read_text()


def die_in_step_5() -> None:
    """As kill -9 does it, between two checkpoints of the last stage."""
    told = Reporter.step

    def step(self, step, losses):
        told(self, step, losses)
        if self.stage.name == "xray" and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    Reporter.step = step


def test_a_non_finite_loss_names_step_and_term_and_fails_the_run(smoke_config, smoke_run, copy_of_run, monkeypatch):
    copy_of_run(smoke_run("l1_adv"), Path(smoke_config().compute.runs), begun=True)
    from x2c.losses.terms import PerceptualTerm

    original = PerceptualTerm.__call__
    calls = []

    def broken(self, step):
        calls.append(1)
        return original(self, step) * (torch.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(PerceptualTerm, "__call__", broken)
    config = smoke_config("l1_lpips")
    with pytest.raises(NonFiniteLoss, match="step 3: loss term lpips"):
        run(config)
    status = run_directory(config).status()
    assert status["state"] == "failed"
    assert "step 3: loss term lpips" in status["reason"]
    options = re.findall(r"--([a-z_.]+)", status["reason"])
    assert options == ["stages.xray.learning_rate", "loss.lpips.weight"]
    assert smoke_config("l1_lpips", *(f"{option}=1e-6" for option in options)), "the advice can be taken"


def test_a_discriminator_that_is_not_finite_has_its_own_rate(smoke_config, smoke_run, copy_of_run, monkeypatch):
    copy_of_run(smoke_run("l1_adv"), Path(smoke_config().compute.runs), begun=True)
    from x2c.losses.terms import Adversarial

    original = Adversarial.discriminator_loss
    monkeypatch.setattr(Adversarial, "discriminator_loss", lambda self, step: original(self, step) * torch.inf)
    with pytest.raises(NonFiniteLoss, match=r"loss term discriminator .*learning_rate or --loss\.adv\.learning_rate$"):
        run(smoke_config("l1_adv"))
    assert smoke_config("l1_adv", "loss.adv.learning_rate=1e-6")


def test_a_failed_run_goes_on_from_its_checkpoint(smoke_config, smoke_run, copy_of_run, monkeypatch):
    from x2c.engine import experiment

    config = smoke_config("l1")
    copy_of_run(smoke_run(), Path(config.compute.runs), begun=True)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config)
    assert run_directory(config).status()["reason"].startswith("ZeroDivisionError")
    directory = run(config)
    assert directory.done
    steps = [line["step"] for line in losses(directory.path) if "loss" in line]
    assert steps == list(range(1, config.steps + 1))


def test_a_run_has_one_owner(smoke_config):
    config = smoke_config("l1")
    with run_directory(config).owned(), pytest.raises(UserError, match="another process"):
        run(config)


def test_accumulation_trains_like_a_larger_batch(smoke_config):
    one = run(smoke_config("l1", *ONE_STAGE, "training.batch_size=4"))
    two = run(smoke_config("l1", *ONE_STAGE, "training.batch_size=2", "training.accumulation=2"))
    assert_same_training(one.path, two.path)


@pytest.fixture(scope="module")
def last(smoke_run) -> RunDirectory:
    """A run whose weights are those of its last step, not their average."""
    return smoke_run("l1", *ONE_STAGE, "training.ema.decay=0")


def test_trained_weights_are_the_average_not_the_last(smoke_run, last):
    averaged = smoke_run("l1", *ONE_STAGE)
    a, b = (load_file(r.path / "denoiser.safetensors")["to_out.weight"] for r in (averaged, last))
    assert not torch.equal(a, b)
    assert losses(averaged.path)[0] == losses(last.path)[0]


def test_the_average_begins_late_and_is_updated_every_few_steps():
    """The authors' rule: copied until a step, and from then on `decay` of it is kept in every update."""
    config = EMA(decay=0.75, every=3, after=4)
    weight = torch.nn.Parameter(torch.zeros(()))
    average = averages(config, [weight])
    expected, told = 0.0, []
    for step in range(1, 14):
        weight.data.fill_(step)
        if updates(config, step):
            average.step([weight])
        if step <= 4:
            expected = float(step)
        elif step % 3 == 0:
            expected = 0.75 * expected + 0.25 * step
        told.append(float(average.shadow_params[0]))
        assert told[-1] == pytest.approx(expected), step
    again = averages(config, [weight])
    again.load_state_dict(average.state_dict())
    for resumed in (average, again):
        resumed.step([weight])
    assert again.shadow_params[0] == average.shadow_params[0]


def test_the_average_of_the_small_scales_grows_from_the_first_step():
    config = resolve("l1", "cpu").training.ema
    weight = torch.nn.Parameter(torch.zeros(()))
    average, expected = averages(config, [weight]), 0.0
    for step in range(1, 50):
        weight.data.fill_(step)
        assert updates(config, step)
        average.step([weight])
        decay = min(0.995, step / (9 + step)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * step
        assert float(average.shadow_params[0]) == pytest.approx(expected)


def test_no_training_is_too_short_for_its_average():
    assert [step for step in range(1, 21) if updates(EMA(decay=0.9, every=5), step)] == [1, 2, 3, 4, 5, 10, 15, 20]
    assert [step for step in range(1, 21) if updates(EMA(decay=0.9, every=5, after=2), step)] == [1, 2, 5, 10, 15, 20]


def test_a_training_shorter_than_the_wait_ends_in_its_last_weights(smoke_config, last):
    waits = run(smoke_config("l1", *ONE_STAGE, "training.ema.every=10", "training.ema.after=2000"))
    a, b = (load_file(r.path / "denoiser.safetensors") for r in (waits, last))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_the_momenta_of_the_discriminator_are_its_own(smoke_config, smoke_run, copy_of_run):
    one = smoke_run("l1_adv")
    copy_of_run(one, Path(smoke_config().compute.runs), begun=True)
    other = run(smoke_config("l1_adv", "loss.adv.betas=[0.9, 0.999]"))
    a, b = (
        [line["loss/discriminator"] for line in losses(r.path) if "loss/discriminator" in line] for r in (one, other)
    )
    assert a[0] == b[0] and a[2:] != b[2:]


def test_steps_the_sampler_cannot_take_are_named_before_work(smoke_config):
    with pytest.raises(UserError, match=r"^sampler\.steps: expected .*; got 1000; set --sampler\.steps=99\d$"):
        run(smoke_config("l1", "sampler.steps=1000"))


def test_a_size_the_networks_cannot_take_is_named_before_work(smoke_config):
    with pytest.raises(UserError, match=r"resolution.size: expected a height divisible by 16"):
        run(smoke_config("l1", "resolution.size=320x256x64"))


def test_scores_of_validation_patients_change_nothing_else(smoke_config, smoke_run, copy_of_run):
    """A search's runs are anyone's: the same run id, the same bits."""
    without = smoke_run("l1_adv")
    scored = smoke_config("l1_adv", "compute.validation_patients=2")
    copy_of_run(without, Path(scored.compute.runs), begun=True)
    told = []
    with on_validation(told.append):
        with_scores = run(scored)
    assert with_scores.path.name == without.path.name
    for name in ("denoiser.safetensors", "scores.parquet"):
        assert (with_scores.path / name).read_bytes() == (without.path / name).read_bytes(), name
    found = with_scores.logged("validation_psnr")
    assert [step for step, _ in found] == [step for step, _ in with_scores.logged("validation_loss")][-len(found) :]
    assert all(math.isfinite(value) for _, value in found) and not without.logged("validation_psnr")
    # Of the last stage alone, and not after its last step.
    assert told == [step for step, _ in found][:-1]


def test_a_pruned_run_says_so_and_goes_on_when_it_is_wanted(smoke_config, smoke_run, copy_of_run):
    config, calm = smoke_config("l1"), smoke_run()
    copy_of_run(calm, Path(config.compute.runs), begun=True)

    def prune(step):
        raise Pruned("others are better")

    with on_validation(prune), pytest.raises(Pruned):
        run(config)
    status = run_directory(config).status()
    assert (status["state"], status["reason"]) == ("pruned", "Pruned: others are better")
    directory = run(config)
    assert directory.done
    assert load_file(directory.path / "denoiser.safetensors").keys()
    for name in ("denoiser.safetensors", "scores.parquet"):
        assert (directory.path / name).read_bytes() == (calm.path / name).read_bytes(), name
