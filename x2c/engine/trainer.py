"""The training loop, on Accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.files import replacing
from x2c.core.run import RunDirectory
from x2c.data.pairs import TrainingPairs
from x2c.diffusion.process import Process
from x2c.engine import checkpoint
from x2c.engine.build import build_denoiser, build_prediction
from x2c.engine.parts import Parts
from x2c.engine.reporting import Reporter
from x2c.losses.combinations import WeightedSum
from x2c.losses.terms import Step
from x2c.models.frozen import seeded


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite: training stops before it spreads into the weights."""


class Trainer:
    """Trains one denoiser; a second call on the same run directory goes on from its newest checkpoint."""

    def __init__(self, config: Config, run: RunDirectory, parts: Parts, accelerator: Accelerator) -> None:
        self.config, self.run, self.parts, self.accelerator = config, run, parts, accelerator
        training = config.training
        self.process = Process.of(config.diffusion, accelerator.device)
        self.prediction = build_prediction(config)
        denoiser = build_denoiser(config)
        # Without guidance no condition is dropped; a parameter out of use would also stall several processes.
        denoiser.null_condition.requires_grad_(False)
        with seeded(config.seed):
            self.loss = WeightedSum(config.loss, parts.loss_parts())
        optimizer = torch.optim.AdamW(
            denoiser.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
        self.denoiser, self.optimizer = accelerator.prepare(denoiser, optimizer)
        self.ema = EMAModel(denoiser.parameters(), decay=training.ema.decay, foreach=True)
        self.adversary_optimizer: Any = None
        if (adversary := self.loss.adversary) is not None:
            adam = torch.optim.Adam(
                adversary.discriminator.parameters(), adversary.options.learning_rate, betas=(0.5, 0.999)
            )
            adversary.discriminator, self.adversary_optimizer = accelerator.prepare(adversary.discriminator, adam)
        accelerator.register_for_checkpointing(self.schedule, self.ema)
        self.step = checkpoint.load_newest(accelerator, run.checkpoints)
        # After loading, which leaves the averages on the CPU.
        self.ema.to(accelerator.device)

    def fit(self) -> nn.Module:
        """Train to the last step. Returns the denoiser with its averaged weights, in eval mode."""
        self.run.forget_after(self.step)
        with Reporter(self.run, self.accelerator, "train", self.config.training.steps, self.step) as report:
            micro_losses: list[dict[str, Tensor]] = []
            for batch in self._batches():
                with self.accelerator.accumulate(self.denoiser):
                    step = self._forward(batch)
                    total, values = self.loss(step)
                    self._refuse_non_finite(total, values)
                    self.accelerator.backward(total)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(self.denoiser.parameters(), self.config.training.clip_norm)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    if self.loss.adversary is not None:
                        values["discriminator"] = self._train_discriminator(step)
                micro_losses.append(
                    {"loss": total.detach(), **{f"loss/{name}": v.detach() for name, v in values.items()}}
                )
                if self.accelerator.sync_gradients:
                    self.schedule.step()
                    self.ema.step(self.denoiser.parameters())
                    self.step += 1
                    report.step(self.step, self._mean(micro_losses))
                    micro_losses.clear()
                    self._validate_and_save(report)
        return self._averaged()

    def _forward(self, batch: dict[str, Tensor]) -> Step:
        """One noising and one denoiser call; x0 in full precision for the terms on it."""
        latents, noise, timesteps = batch["latents"], batch["noise"], batch["timesteps"]
        noisy = self.process.add_noise(latents, noise, timesteps)
        output = self.denoiser(noisy, timesteps, batch["condition"]).float()
        return Step(
            output=output,
            target=self.prediction.target(self.process, latents, noise, timesteps),
            x0=self.prediction.x0(self.process, output, noisy, timesteps),
            latents=latents,
            weight=self.process.weight(timesteps),
            labels=batch["labels"],
            slices=batch.get("slices"),
            depths=batch.get("depths"),
        )

    def _train_discriminator(self, step: Step) -> Tensor:
        assert self.loss.adversary is not None
        loss = self.loss.adversary.discriminator_loss(step)
        self._refuse_non_finite(loss, {"discriminator": loss})
        self.accelerator.backward(loss)
        self.adversary_optimizer.step()
        self.adversary_optimizer.zero_grad()
        return loss

    def _refuse_non_finite(self, total: Tensor, values: dict[str, Tensor]) -> None:
        if not torch.isfinite(total):
            broken = [name for name, value in values.items() if not torch.isfinite(value)] or ["sum"]
            raise NonFiniteLoss(
                f"step {self.step + 1}: loss term {', '.join(broken)} is not finite; lower training.learning_rate or its weight"
            )

    def _mean(self, losses: list[dict[str, Tensor]]) -> dict[str, float]:
        """Each loss, averaged over an optimizer step's micro-steps and processes."""
        table = torch.stack([torch.stack(list(values.values())) for values in losses]).mean(dim=0)
        mean: Any = self.accelerator.reduce(table, "mean")
        return dict(zip(losses[0], mean.tolist(), strict=True))

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """The micro-batches from the current step to the last."""
        training, per_step = self.config.training, self._samples_per_step()
        pairs = self._pairs("train", training.steps * per_step, self.loss.slices_per_volume)
        rest = range(self.step * per_step, len(pairs))
        loader: Any = DataLoader(pairs, self._batch_per_process(), sampler=rest)
        yield from self.accelerator.prepare(loader) if len(rest) else ()

    def _samples_per_step(self) -> int:
        return self.config.training.batch_size * self.config.training.accumulation

    def _batch_per_process(self) -> int:
        size, processes = self.config.training.batch_size, self.accelerator.num_processes
        if size % processes:
            raise UserError(f"training.batch_size: expected a multiple of the {processes} processes; came {size}")
        return size // processes

    def _pairs(self, split: str, length: int, slices_per_volume: int) -> TrainingPairs:
        config = self.config
        return TrainingPairs(
            self.parts.cohort,
            self.parts.latents,
            self.parts.embeddings,
            self.parts.cohort.rows(split),
            seed=config.seed,
            num_train_timesteps=config.diffusion.num_train_timesteps,
            length=length,
            slices_per_volume=slices_per_volume,
            window_hu=(config.window.low_hu, config.window.high_hu),
        )

    def _validate_and_save(self, report: Reporter) -> None:
        training = self.config.training
        last = self.step == training.steps
        if last or self.step % training.validate_every == 0:
            report.log(self.step, {"validation_loss": self._validation_loss()})
        if last or self.step % training.checkpoint_every == 0:
            checkpoint.save(self.accelerator, self.run.checkpoints, self.step)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean absolute error of the averaged denoiser on the validation patients, at noise that never changes."""
        pairs = self._pairs("val", len(self.parts.cohort.rows("val")), 0)
        loader = DataLoader(pairs, self.config.training.batch_size)
        losses: list[Tensor] = []
        with _weights_of(self.ema, self.denoiser):
            for batch in loader:
                step = self._forward({key: value.to(self.accelerator.device) for key, value in batch.items()})
                losses += (step.output - step.target).abs().flatten(1).mean(1).unbind()
        return float(torch.stack(losses).mean())

    def _averaged(self) -> nn.Module:
        denoiser = self.accelerator.unwrap_model(self.denoiser)
        self.ema.copy_to(denoiser.parameters())
        if self.accelerator.is_main_process:
            with replacing(self.run.path / "denoiser.safetensors") as path:
                save_file(denoiser.state_dict(), path)
        return denoiser.eval()


@contextmanager
def _weights_of(ema: EMAModel, model: nn.Module) -> Iterator[None]:
    """The model with the averaged weights inside the block, its own afterwards."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())
