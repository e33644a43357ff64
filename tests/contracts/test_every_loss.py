"""Contract of loss terms: the gradient reaches the whole denoiser, and frozen networks do not change."""

from __future__ import annotations

import pytest
import torch

from x2c.core.config import Diffusion
from x2c.core.registry import LOSS_TERMS, PREDICTIONS
from x2c.core.resolve import resolve
from x2c.diffusion.process import Process
from x2c.engine.build import build_denoiser
from x2c.losses.combinations import WeightedSum, loss_of
from x2c.losses.terms import Step

PROCESS = Process.of(Diffusion(num_train_timesteps=1000, max_beta=0.9999, x0_weight="alpha_bar"))


@pytest.fixture
def denoiser():
    return build_denoiser(resolve("full", "smoke"))


def make_step(parts, denoiser, prediction: str = "x0", timesteps=(100, 600)) -> Step:
    """A real step on real cached latents."""
    rows, t = parts.evaluated.cohort.rows("train")[:2], torch.tensor(timesteps)
    latents = parts.evaluated.latents[rows]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    noisy = PROCESS.add_noise(latents, noise, t)
    output = denoiser(noisy, t, parts.evaluated.embeddings[rows])
    parametrisation = PREDICTIONS.get(prediction)()
    depths = torch.tensor([[1], [5]])
    truth = torch.from_numpy(parts.evaluated.cohort.volumes(rows, -100, 900)) * 2 - 1
    return Step(
        output=output,
        target=parametrisation.target(PROCESS, latents, noise, t),
        x0=parametrisation.x0(PROCESS, output, noisy, t),
        latents=latents,
        weight=PROCESS.weight(t),
        labels=torch.tensor([0, 1]),
        slices=truth[torch.arange(2)[:, None], depths],
        depths=depths,
    )


def term(name: str, parts):
    options = resolve("l1", "smoke", 0, [f"loss={name}"]).loss.terms[name]
    return LOSS_TERMS.get(name)(options, parts.loss_parts(parts.evaluated))


def frozen_modules(parts, loss_term):
    found = [parts.autoencoder.model]
    return found + [m for m in vars(loss_term).values() if isinstance(m, torch.nn.Module)]


@pytest.mark.parametrize("prediction", PREDICTIONS.names())
@pytest.mark.parametrize("name", LOSS_TERMS.names())
def test_the_gradient_reaches_every_part_of_the_denoiser(name, prediction, smoke_parts, denoiser):
    loss_term = term(name, smoke_parts)
    loss_term(make_step(smoke_parts, denoiser, prediction)).backward()
    without = [
        n
        for n, p in denoiser.named_parameters()
        if n != "null_condition" and (p.grad is None or p.grad.abs().sum() == 0)
    ]
    assert without == []


@pytest.mark.parametrize("name", LOSS_TERMS.names())
def test_nothing_but_the_denoiser_gets_a_gradient_or_moves(name, smoke_parts, denoiser):
    loss_term = term(name, smoke_parts)
    modules = frozen_modules(smoke_parts, loss_term)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    loss_term(make_step(smoke_parts, denoiser)).backward()
    for module, state in zip(modules, before, strict=True):
        assert all(p.grad is None for p in module.parameters())
        for key, value in module.state_dict().items():
            assert torch.equal(value, state[key]), key


def test_classifier_is_in_eval_mode_and_frozen(smoke_parts):
    classifier = term("cls", smoke_parts).classifier
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_weight_of_the_positive_class_counts_for_patients_with_embolism_alone(smoke_parts, denoiser):
    plain, doubled = term("cls", smoke_parts), term("cls", smoke_parts)
    doubled.pos_weight = 2.0
    assert plain.pos_weight == 1.0 and resolve("full", "paper").loss.terms["cls"].pos_weight == 2.764
    step = make_step(smoke_parts, denoiser)
    for label, factor in ((1, 2), (0, 1)):
        labelled = Step(**{**vars(step), "labels": torch.full((2,), label)})
        torch.testing.assert_close(doubled(labelled), factor * plain(labelled))


def test_the_discriminator_learns_from_its_own_loss_and_the_denoiser_does_not(smoke_parts, denoiser):
    adversary = term("adv", smoke_parts)
    step = make_step(smoke_parts, denoiser)
    adversary(step)
    adversary.discriminator_loss(step).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adversary.discriminator.parameters())
    assert all(p.grad is None for p in denoiser.parameters())


def test_the_discriminator_loss_falls_when_it_tells_real_from_generated(smoke_parts, denoiser):
    adversary = term("adv", smoke_parts)
    step = make_step(smoke_parts, denoiser, timesteps=(0, 0))
    optimizer = torch.optim.Adam(adversary.discriminator.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = adversary.discriminator_loss(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    fooled = adversary(Step(**{**vars(step), "x0": step.latents}))
    caught = adversary(step)
    assert fooled < caught


def test_perfect_volumes_have_no_l1_and_low_perceptual_loss(smoke_parts, denoiser):
    step = make_step(smoke_parts, denoiser)
    exact = Step(**{**vars(step), "x0": step.latents, "output": step.target})
    assert term("l1", smoke_parts)(exact) == 0
    assert term("lpips", smoke_parts)(exact) < term("lpips", smoke_parts)(step)


def test_a_stage_is_trained_with_the_terms_it_names():
    config = resolve("lidc_lora", "smoke", 0, ["loss.l1.weight=2", "loss.lpips.weight=0.5"])
    of = {name: loss_of(config, stage) for name, stage in config.stages.each.items()}
    weights = {name: {term: o.weight for term, o in loss.terms.items()} for name, loss in of.items()}
    assert weights["drr"] == {"l1": 1.0}, "shared by rows of every loss"
    assert weights["xray"] == {"l1": 2.0, "lpips": 0.5, "adv": 0.001, "cls": 0.08}
    assert weights["lidc"] == {"l1": 2.0, "lpips": 0.5}


def test_the_sum_weights_its_terms(smoke_parts, denoiser):
    config = resolve("full", "smoke", 0, ["loss.lpips.weight=0.5"]).loss
    loss = WeightedSum(config, smoke_parts.loss_parts(smoke_parts.evaluated))
    assert loss.slices_per_volume == 1
    step = make_step(smoke_parts, denoiser)
    total, values = loss(step)
    weights = {"l1": 1.0, "lpips": 0.5, "adv": 0.001, "cls": 0.08}
    torch.testing.assert_close(total, sum(weights[name] * values[name] for name in weights))
