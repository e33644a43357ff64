"""A GPU is waited for every few steps: what that must not change, and that it is so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from x2c.engine.accelerating import accelerated
from x2c.engine.build import build_denoiser
from x2c.engine.identity import planned_stages
from x2c.engine.trainer import NonFiniteLoss, Trainer

STEPS, READ_EVERY = 10, 5
READING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
"""Methods of a tensor that wait for the GPU it is on."""
aten = torch.ops.aten
WAITING = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)
"""Operations that do."""


@dataclass
class Told:
    """Stands where a Reporter would."""

    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def step(self, step: int, losses: dict[str, float]) -> None:
        self.losses.append((step, losses))

    def log(self, step: int, values: dict[str, float]) -> None: ...


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in WAITING
        return function(*args, **(kwargs or {}))


@contextmanager
def trainer_of(smoke_config, smoke_parts, *overrides: str) -> Iterator[Trainer]:
    """A trainer of the last stage with all terms of the loss, which reads as on a GPU."""
    rarely = ("training.validate_every=1000", "training.checkpoint_every=1000")
    config = smoke_config("full", f"stages.xray.steps={STEPS}", *rarely, *overrides)
    planned = planned_stages(config)[-1]
    planned.directory.path.mkdir(parents=True)
    with accelerated(config) as accelerator:
        trainer = Trainer(config, planned, build_denoiser(config), smoke_parts, accelerator)
        assert trainer.read_every == 1, "on a CPU nothing waits"
        trainer.read_every = READ_EVERY
        yield trainer


def test_between_two_readings_nothing_waits_for_the_gpu(smoke_config, smoke_parts, undisturbed, monkeypatch):
    waits, after = Waits(), list[int]()
    train, told = Trainer._micro_step, Told()

    def step(self, batch):
        values = train(self, batch)
        after.append(waits.count)
        return values

    def waiting(method):
        def call(*arguments, **options):
            waits.count += 1
            return method(*arguments, **options)

        return call

    def whole(self):
        # Samples are made on the CPU: what they read there waits for nothing.
        yield from samples

    with trainer_of(smoke_config, smoke_parts) as trainer, monkeypatch.context() as patch:
        samples = list(trainer._batches())
        patch.setattr(Trainer, "_micro_step", step)
        patch.setattr(Trainer, "_batches", whole)
        for name in READING:
            patch.setattr(torch.Tensor, name, waiting(getattr(torch.Tensor, name)))
        with waits:
            trainer.fit(told)
    assert len(after) == STEPS
    before_reading, next_step = after[READ_EVERY - 1], after[READ_EVERY]
    assert after[:READ_EVERY] == [0] * READ_EVERY
    assert 1 <= next_step - before_reading <= 2, "the losses of all steps are read at once"
    assert after[READ_EVERY:] == [next_step] * READ_EVERY
    assert [step for step, _ in told.losses] == list(range(1, STEPS + 1))


def test_reading_rarely_changes_no_loss_and_no_weight(smoke_config, smoke_parts, undisturbed):
    found = []
    for number, every in enumerate((1, READ_EVERY)):
        told, runs = Told(), f"compute.runs={smoke_config().compute.runs}-{number}"
        with trainer_of(smoke_config, smoke_parts, runs) as trainer:
            trainer.read_every = every
            trainer.fit(told)
            found.append((told.losses, [parameter.detach().clone() for parameter in trainer.learned]))
    (losses, weights), (others, other_weights) = found
    assert losses == others
    assert all(torch.equal(a, b) for a, b in zip(weights, other_weights, strict=True))


@pytest.mark.parametrize(("checkpoint_every", "kept"), [(1000, []), (2, ["step-0000002"])])
def test_a_loss_that_is_not_finite_is_named_later_and_never_saved(
    checkpoint_every, kept, smoke_config, smoke_parts, undisturbed, monkeypatch
):
    from x2c.losses.terms import PerceptualTerm

    original, calls = PerceptualTerm.__call__, list[int]()

    def broken(self, step):
        calls.append(1)
        return original(self, step) * (torch.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(PerceptualTerm, "__call__", broken)
    told = Told()
    with trainer_of(smoke_config, smoke_parts, f"training.checkpoint_every={checkpoint_every}") as trainer:
        with pytest.raises(NonFiniteLoss, match=r"^step 3: loss term lpips is not finite; lower "):
            trainer.fit(told)
        assert [path.name for path in sorted(trainer.directory.checkpoints.glob("*"))] == kept
    assert [step for step, _ in told.losses] == [1, 2]
    assert len(calls) == (4 if kept else READ_EVERY)
