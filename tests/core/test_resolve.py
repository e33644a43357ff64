"""Configs: layers, overrides, and errors that name path, nearest name and choices."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from x2c.core import resolve as resolving
from x2c.core.errors import FileError, UserError
from x2c.core.identity import identity
from x2c.core.resolve import parse_override, resolve, scales, variants
from x2c.core.run import run_id


def test_layers_win_from_base_to_command_line():
    assert resolve("l1", "paper").stages.each["rspect"].steps == 100_000
    assert resolve("l1", "smoke").stages.each["xray"].steps == 8
    assert resolve("l1", "smoke", 0, ["stages.xray.steps=3"]).stages.each["xray"].steps == 3


def test_a_loss_holds_only_its_terms():
    assert list(resolve("l1", "smoke").loss.terms) == ["l1"]
    full = resolve("full", "paper").loss.terms
    assert {name: term.weight for name, term in full.items()} == {"l1": 1.0, "lpips": 0.01, "adv": 0.001, "cls": 0.08}


def test_another_entry_starts_from_its_own_defaults():
    config = resolve("l1", "smoke", 0, ["encoder=biomedclip"])
    assert config.encoder.model_dump()["dimension"] == 512


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_and_its_options_may_come_in_any_order(order):
    config = resolve("l1", "smoke", 0, ["sampler=ddim", "sampler.steps=3"][::order])
    assert config.sampler.model_dump() == {"name": "ddim", "steps": 3}
    config = resolve("l1", "smoke", 0, ["dataset.name=phantom", "dataset.train=5"][::order])
    assert (config.dataset.model_dump()["train"], config.dataset.model_dump()["val"]) == (5, 4)


def test_yaml_reads_no_as_false_and_we_do_not():
    assert resolve("l1", "smoke", 0, ["training.mixed_precision=no"]).training.mixed_precision == "no"


def test_overrides_are_yaml():
    assert parse_override("--a.b=1e-3") == {"a": {"b": "1e-3"}}
    config = resolve("l1", "smoke", 0, ["stages.xray.learning_rate=1e-2"])
    assert config.stages.each["xray"].learning_rate == 1e-2


@pytest.mark.parametrize(
    ("variant", "scale", "overrides", "parts"),
    [
        ("l1_lpip", "cpu", [], ["--variant", "'l1_lpip'", "did you mean 'l1_lpips'", "full"]),
        ("l1", "cp", [], ["--scale", "'cp'", "did you mean 'cpu'", "paper"]),
        ("l1", "cpu", ["trainig.steps=1"], ["trainig", "did you mean 'training'"]),
        ("l1", "cpu", ["training.ema.decy=.9"], ["training.ema.decy", "did you mean 'decay'"]),
        ("l1", "cpu", ["stages.xray.steps=many"], ["stages.xray.steps", "'many'"]),
        ("l1", "cpu", ["stages.xray.steps=0"], ["stages.xray.steps", "greater than 0"]),
        ("l1", "cpu", ["training.mixed_precision=fp32"], ["training.mixed_precision", "bf16", "'fp32'"]),
        ("l1", "cpu", ["encoder=biomedclp"], ["encoder", "did you mean 'biomedclip'", "clip_standin"]),
        ("l1", "cpu", ["encoder.widht=3"], ["encoder.widht", "did you mean 'width'"]),
        ("l1", "cpu", ["sampler.name=dpm"], ["sampler", "'dpm'", "choices: ddim, ddpm, dpm++"]),
        ("l1", "cpu", ["loss=l1_lpisp"], ["loss", "l1_lpisp", "did you mean 'lpips'", "choices: adv, "]),
        ("l1", "cpu", ["loss=l1_l1"], ["loss", "l1_l1", "once"]),
        ("l1_adv", "cpu", ["loss.adv.weight=-1"], ["loss.adv.weight", "greater than or equal to 0", "-1"]),
        ("lidc_lora", "cpu", ["table2.lable=L1", "table2.section=Loss"], ["table2.lable", "did you mean 'label'"]),
        ("l1", "cpu", ["loss.lpips.weight=1"], ["loss.lpips", "has no term"]),
        ("lidc_lora", "cpu", ["loss=l1"], ["stages.lidc.loss", "got 'l1_lpips'", "set --stages.lidc.loss=l1"]),
        ("lidc_lora", "cpu", ["stages.lidc.loss=l1_l1"], ["stages.lidc.loss", "name each once"]),
        ("lidc_lora", "cpu", ["stages.lidc.loss=l1_cls"], ["stages.lidc.loss", "trained on dataset"]),
        ("l1_adv", "cpu", ["loss.adv.weigth=1"], ["loss.adv.weigth", "did you mean 'weight'"]),
        ("l1_lpips", "cpu", ["loss.lpips.network=vgg"], ["loss.lpips.network", "'vgg'", "lpips_alex"]),
        ("l1", "cpu", ["dataset.window.low_hu=1000"], ["dataset.window", "below"]),
        ("l1_cls", "cpu", ["prediction=eps", "diffusion.x0_weight=uniform"], ["diffusion.x0_weight", "alpha_bar"]),
        ("l1", "cpu", ["denoiser.dim=12"], ["denoiser.dim", "multiple of 8", "12"]),
        ("l1", "cpu", ["sampler.steps=2000"], ["sampler.steps", "1000", "2000"]),
        ("l1", "cpu", ["dataset.test=1"], ["dataset.test", "1"]),
        ("l1_adv", "gpu", ["training.mixed_precision=fp16"], ["training.mixed_precision", "adv"]),
        ("l1", "cpu", ["training"], ["training", "--a.b=value"]),
        ("l1", "cpu", ["training=3"], ["training", "3"]),
        ("l1", "cpu", ["seed=3"], ["seed"]),
        ("l1", "cpu", ["compute.threads=.nan"], ["compute.threads"]),
    ],
)
def test_errors_are_one_line_that_helps(variant, scale, overrides, parts):
    with pytest.raises(UserError) as caught:
        resolve(variant, scale, 0, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("seed", [-1, 2**31, True, "0"])
def test_a_seed_out_of_range_is_refused_with_the_range(seed):
    with pytest.raises(UserError) as caught:
        resolve("l1", "smoke", seed)
    assert str(caught.value) == f"--seed: expected a whole number from 0 to 2147483647; got {seed!r}; give another"


def test_the_largest_seed_is_taken():
    assert resolve("l1", "smoke", 2**31 - 1).seed == 2147483647


@pytest.mark.parametrize("scale", scales())
@pytest.mark.parametrize("variant", variants())
def test_every_variant_resolves_at_every_scale(variant, scale):
    config = resolve(variant, scale)
    assert (config.variant, config.scale) == (variant, scale)


def test_run_ids_tell_results_apart_and_nothing_else():
    base = resolve("l1", "smoke")
    same = resolve("l1", "smoke", 0, ["compute.workers=7", "compute.runs=/elsewhere", "evaluation.batch_size=1"])
    assert run_id(base, "data") == run_id(same, "data")
    others = [resolve("l1", "smoke", 1), resolve("l1", "smoke", 0, ["stages.xray.steps=9"]), resolve("l1_adv", "smoke")]
    ids = {run_id(base, "data"), run_id(base, "other data"), *(run_id(config, "data") for config in others)}
    assert len(ids) == 5
    assert run_id(base, "data").startswith("l1-smoke-s0-")


def test_identity_holds_every_loss_weight():
    assert identity(resolve("full", "smoke"))["loss"]["cls"]["weight"] == 0.08


@pytest.fixture
def variant_file(tmp_path, monkeypatch):
    """Write the file of a variant `mine`."""
    folder = tmp_path / "experiments"
    shutil.copytree(resolving.EXPERIMENTS, folder)
    monkeypatch.setattr(resolving, "EXPERIMENTS", folder)
    resolving._files_of.cache_clear()
    yield (folder / "mine.yaml").write_text
    resolving._files_of.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Mine.\nlos: l1\n", "experiments/mine.yaml:2: los: expected a known key; got 'los'; did you mean 'loss'?"),
        ("loss: l1_lpisp\n", "experiments/mine.yaml:1: loss: expected a known term; got 'lpisp'"),
        (
            "table2:\n  section: Loss\n  lable: L1\n",
            "experiments/mine.yaml:3: table2.lable: expected a known key; got 'lable'; did you mean 'label'?",
        ),
        (
            "loss: l1\nstages: [rspect, xry]\n",
            "experiments/mine.yaml:2: stages.order: expected a known stage; got 'xry'",
        ),
        # What the file does not say, it has from a base that it does not go with.
        (
            "prediction: eps\ndiffusion: {x0_weight: uniform}\nloss: l1_cls\n",
            "experiments/mine.yaml:2: diffusion.x0_weight: 'uniform' explodes",
        ),
        ("stages: [ctpa]\n", "experiments/mine.yaml:1: stages.ctpa.condition: the last stage is what is scored"),
        (
            "autoencoder: {name: kl_f9}\n",
            "experiments/mine.yaml:1: autoencoder: expected a known autoencoder; got 'kl_f9'",
        ),
    ],
)
@pytest.mark.parametrize("overrides", [[], ["data=phantom", "training.batch_size=2"]])
def test_what_is_wrong_in_a_variant_s_file_names_it_and_the_line(variant_file, text, message, overrides):
    variant_file(text)
    with pytest.raises(UserError) as caught:
        resolve("mine", "paper", 0, overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_on_the_command_line_is_no_fault_of_the_file(variant_file):
    variant_file("loss: l1\n")
    with pytest.raises(UserError, match=r"^loss: expected a known term; got 'l2'"):
        resolve("mine", "smoke", 0, ["loss=l2"])
    variant_file("loss: l1_lpisp\n")
    with pytest.raises(UserError, match=r"^trainig: expected a known key"):
        resolve("mine", "smoke", 0, ["loss=l1", "trainig.steps=2"])


def test_a_broken_file_of_a_registry_is_no_fault_of_a_variant(variant_file, monkeypatch):
    variant_file("loss: l1\n")

    def broken(name):
        raise FileError(Path("x2c/losses/mine.py"), "line 3: loss 'l1': cannot be imported")

    monkeypatch.setattr(resolving.LOSS_TERMS, "get", broken)
    with pytest.raises(UserError, match=r"^x2c/losses/mine\.py: line 3: loss 'l1'"):
        resolve("mine", "smoke")


def test_a_config_survives_the_way_to_another_process():
    config = resolve("full", "smoke")
    assert pickle.loads(pickle.dumps(config)) == config
