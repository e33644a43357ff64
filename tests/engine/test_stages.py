"""Stages: trained once, shared by whoever needs them, resumed when they die, never mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from x2c.core.errors import UserError
from x2c.core.resolve import read_config, resolve, variants
from x2c.engine.build import build_denoiser
from x2c.engine.experiment import run
from x2c.engine.identity import planned_stages
from x2c.engine.stages import trained_denoiser


def keys(variant: str, *overrides: str, scale: str = "smoke") -> dict[str, str]:
    return {planned.name: planned.key for planned in planned_stages(resolve(variant, scale, 0, overrides))}


def test_rows_share_what_leads_to_the_same_weights_and_nothing_else():
    l1 = keys("l1")
    for variant in ("l1_lpips", "l1_adv", "l1_cls", "cfg", "label_cfg", "full_no_drr"):
        other = keys(variant)
        assert {name for name in l1 if l1[name] == other[name]} == {"rspect", "ctpa"}, variant
    full, l1_drr = keys("full"), keys("l1_drr")
    assert full["rspect"] == l1["rspect"] and "ctpa" not in full
    assert [name for name in full if full[name] == l1_drr[name]] == ["rspect", "drr"]
    assert {name for name, key in keys("full_ctpa").items() if l1.get(name) == key} == {"rspect", "ctpa"}
    assert keys("lidc_lora").items() > full.items()
    for variant in ("res_128", "res_512", "vqgan_3d", "clip", "adaln", "pred_eps"):
        assert not set(l1.values()) & set(keys(variant).values()), variant


def test_what_only_sampling_uses_retrains_nothing():
    assert keys("label_cfg") == keys("label_cfg_known")
    assert keys("cfg") == keys("cfg", "guidance.scale=5", "sampler.steps=3", "evaluation.pictures=1")
    changed = keys("cfg", "guidance.drop=0.3")
    assert [name for name in changed if changed[name] != keys("cfg")[name]] == ["xray"]
    # An unconditional stage has seen no X-ray: another encoder of the same width leads to the same weights.
    assert keys("l1", "encoder.layers=2")["ctpa"] == keys("l1")["ctpa"]
    assert keys("l1", "encoder.layers=2")["xray"] != keys("l1")["xray"]


def test_what_changes_no_weight_changes_no_key():
    assert keys("full") == keys(
        "full", "training.validate_every=7", "training.checkpoint_every=1", "loss=l1_lpips_adv_cls"
    )
    assert keys("l1") == keys("l1", "denoiser.width=latent_size")


def test_networks_of_another_width_share_nothing():
    # At equal voxels the authors' rule still makes other widths of other published sizes.
    same = ("autoencoder=kl_f8", "denoiser.width=latent_size", "denoiser.dim=32")
    one = keys("l1", *same, "resolution={size: 256x256x64, reduction: 8}")
    other = keys("l1", *same, "resolution={size: 128x128x32, reduction: 4}")
    assert not set(one.values()) & set(other.values())


def test_an_encoder_that_is_projected_shares_nothing_with_one_that_is_not(monkeypatch):
    from x2c.models.encoders.open_clip import CLIPStandIn

    plain = keys("l1")
    monkeypatch.setattr(CLIPStandIn, "projection", 32)
    assert not set(plain.values()) & set(keys("l1").values())


@pytest.mark.parametrize("override", ["stages.rspect.steps=5", "seed", "denoiser.dim=24", "pretraining.train=13"])
def test_a_change_at_the_start_changes_all_that_follows(override):
    config = resolve("l1", "smoke", 1) if override == "seed" else resolve("l1", "smoke", 0, [override])
    assert not {planned.key for planned in planned_stages(config)} & set(keys("l1").values())


def test_the_second_row_trains_only_its_own_stage(smoke_config, smoke_run, copy_of_run):
    first = smoke_run()
    runs = copy_of_run(first, Path(smoke_config().compute.runs))
    stages = runs / "stages"
    touched = {path: path.stat().st_mtime_ns for path in stages.glob("*/denoiser.safetensors")}
    second = run(smoke_config("l1_adv"))
    assert {path.parent.name.split("-")[0] for path in touched} == {"rspect", "ctpa", "xray"}
    assert all(path.stat().st_mtime_ns == before for path, before in touched.items())
    assert len(list(stages.iterdir())) == len(touched) + 1
    # Each run tells of all its stages, whoever trained them.
    lines = [json.loads(line) for line in (second.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 16))
    assert not list(stages.glob("*/checkpoints"))


def test_sharing_changes_no_result(smoke_config, smoke_run, copy_of_run):
    shared = smoke_config("l1_adv", "sampler.steps=2")
    copy_of_run(smoke_run(), Path(shared.compute.runs))
    alone = smoke_config("l1_adv", "sampler.steps=2", f"compute.runs={shared.compute.runs}-alone")
    one, other = run(shared), run(alone)
    assert (one.path / "scores.parquet").read_bytes() == (other.path / "scores.parquet").read_bytes()


@pytest.mark.parametrize(
    ("gone", "variant", "override"), [("ctpa", "l1_adv", "sampler.steps=4"), ("xray", "l1", "sampler.steps=3")]
)
def test_a_stage_whose_weights_are_gone_says_how_to_get_them_back(
    gone, variant, override, smoke_config, smoke_run, copy_of_run
):
    runs = copy_of_run(smoke_run(), Path(smoke_config().compute.runs))
    next(runs.glob(f"stages/{gone}*/denoiser.safetensors")).unlink()
    with pytest.raises(UserError, match=rf"{gone}.*are gone; delete .*{gone}.* and it is trained again"):
        run(smoke_config(variant, override))


@pytest.mark.parametrize("name", ["start.safetensors", "start.pt"])
def test_junk_to_start_from_is_refused_before_any_work(name, smoke_config, tmp_path):
    (tmp_path / name).write_text("abc\n")
    empty = f"compute.cache={tmp_path / 'cache'}"
    with pytest.raises(UserError, match=r"expected a denoiser's .safetensors, or a checkpoint"):
        run(smoke_config("l1", f"stages.start={tmp_path / name}", empty))
    assert not (tmp_path / "cache").exists()


def test_adapters_on_weights_of_ones_own_with_labels_coming_in(smoke_config, tmp_path):
    save_file(build_denoiser(smoke_config("l1")).state_dict(), tmp_path / "start.safetensors")
    chosen = (
        "stages.order=[lidc]",
        f"stages.start={tmp_path / 'start.safetensors'}",
        "guidance=label",
        "stages.lidc.loss=l1",
    )
    assert run(smoke_config("lidc_lora", *chosen)).done


def test_training_can_start_from_weights_of_ones_own(smoke_config, tmp_path):
    donor = build_denoiser(smoke_config("l1"))
    file = tmp_path / "start.safetensors"
    save_file(donor.state_dict(), file)
    chosen = ("stages.order=[xray]", f"stages.start={file}", "stages.xray.learning_rate=1e-12")
    directory = run(smoke_config("l1", *chosen))
    trained = load_file(directory.path / "denoiser.safetensors")
    for name, value in donor.state_dict().items():
        torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=0)
    moved = tmp_path / "moved.safetensors"
    file.rename(moved)
    # The weights count, not where they lie.
    assert run(smoke_config("l1", chosen[0], f"stages.start={moved}", chosen[2])).path == directory.path
    with pytest.raises(UserError, match=r"stages.start: no file"):
        run(smoke_config("l1", *chosen))
    with pytest.raises(UserError, match=r"expected weights of this variant's denoiser.*of another shape"):
        run(smoke_config("l1", *chosen[:1], f"stages.start={moved}", "denoiser.dim=24"))


def test_adapters_train_alone_and_the_run_holds_base_and_adapters(smoke_run):
    full, lora = smoke_run("full"), smoke_run("lidc_lora")
    base = load_file(full.path / "denoiser.safetensors")
    for name, value in load_file(lora.path / "denoiser.safetensors").items():
        assert torch.equal(value, base[name]), name
    assert (lora.path / "adapter" / "adapter_model.safetensors").exists()
    merged = trained_denoiser(read_config(lora.path / "config.yaml"), lora).state_dict()
    changed = {name for name, value in merged.items() if not torch.equal(value, base[name])}
    assert changed and all(
        name.endswith(("to_qkv.weight", "to_out.weight", "to_scale_shift.weight")) for name in changed
    )


@pytest.mark.parametrize("variant", [name for name in variants() if "vqgan" not in name])
def test_every_variant_takes_a_step_that_reaches_all_it_trains(variant, smoke_config, smoke_run):
    """One step of every stage of every variant; what a stage learns moves, what it does not learn stays."""
    short = [f"stages.{name}.steps=1" for name in smoke_config(variant).stages.each]
    # Weight decay would move what no gradient reaches.
    overrides = [*short, "sampler.steps=2", "training.weight_decay=0"]
    if variant.startswith("res_"):
        # Patients that no other test has.
        overrides += [f"{role}.{split}=2" for role in ("dataset", "pretraining") for split in ("train", "val", "test")]
        overrides += ["compute.workers=1", "autoencoder.steps=5"]
    directory = smoke_run(variant, *overrides)
    config = read_config(directory.path / "config.yaml")
    before, after = build_denoiser(config).state_dict(), trained_denoiser(config, directory).state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == {"rotary.frequencies"}


@pytest.mark.parametrize(
    ("variant", "overrides", "message"),
    [
        ("l1", ["stages=[xray, ctpa]"], "stages.ctpa.condition: the last stage is what is scored"),
        ("l1", ["stages=[ctpa, xrai]"], "stages.order: expected a known stage; got 'xrai'; did you mean 'xray'?"),
        ("l1", ["stages=[]"], "stages.order: expected a list of different stages"),
        ("l1", ["stages.drr.steps=3"], "stages.drr: not among this variant's stages"),
        ("l1", ["stages.xray.condition=drr"], "stages.xray.condition: dataset has radiographs of kind 'xray'"),
        ("l1", ["stages.xray.data=pretraining"], "stages.xray.condition: pretraining has radiographs of kind 'drr'"),
        ("l1", ["stages=[lidc]"], "stages.lidc.lora_rank: adapters need trained weights to start from"),
        ("full", ["stages.drr.lora_rank=2"], "stages.drr.lora_rank: only the last stage can train adapters"),
        (
            "full",
            ["stages.drr.loss=variant"],
            "stages.drr.loss: the classifier of loss term 'cls' is trained on dataset",
        ),
        (
            "l1",
            ["stages.xray.loss=l2"],
            "stages.xray.loss: expected l1, variant or terms of loss 'l1' joined by '_'; got 'l2'",
        ),
        ("l1", ["finetuning.train=3"], "finetuning: no stage uses it"),
        ("l1", ["guidance.scale=3"], "guidance.scale: expected a known key; got 'scale'"),
        ("l1", ["resolution.size=256x256"], "resolution.size: "),
        ("l1", ["resolution.reduction=7"], "every axis of 256x256x64 must be divisible by reduction 7"),
    ],
)
def test_wrong_stages_are_refused_before_anything_is_built(variant, overrides, message):
    with pytest.raises(UserError) as caught:
        resolve(variant, "smoke", 0, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scaling_by_a_codebook_needs_one(smoke_config):
    with pytest.raises(UserError, match=r"latents.scaling: autoencoder 'kl_standin' has no codebook"):
        run(smoke_config("l1", "latents.scaling=codebook"))


def test_latents_can_be_scaled_by_their_extremes(smoke_config, smoke_cache):
    from x2c.engine.parts import open_parts

    config = smoke_config("l1", "latents.scaling=min_max")
    latents = open_parts(config).evaluated.latents
    training = open_parts(config).evaluated.cohort.rows("train")
    assert latents[training].abs().max() == pytest.approx(1, abs=1e-5)
    assert (latents[training].min(), latents[training].max()) == (
        pytest.approx(-1, abs=1e-5),
        pytest.approx(1, abs=1e-5),
    )
    assert latents.scale.largest == pytest.approx(1, abs=1e-5)
