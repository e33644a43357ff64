"""The training loop, on Accelerate."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from x2c.core import listening
from x2c.core.config import EMA, Config
from x2c.core.errors import UserError
from x2c.core.files import replacing
from x2c.core.seeding import seed_of
from x2c.core.stopping import Stopped, postponed, requested_signal
from x2c.data.pairs import TrainingPairs
from x2c.diffusion.process import Process
from x2c.engine import checkpoint
from x2c.engine.build import build_guidance, build_prediction
from x2c.engine.identity import PlannedStage
from x2c.engine.loading import batches
from x2c.engine.parts import Parts
from x2c.engine.reporting import Reporter
from x2c.engine.validation import Validation
from x2c.losses.combinations import WeightedSum, loss_of
from x2c.losses.terms import Step
from x2c.models.frozen import seeded
from x2c.models.lora import save_adapters, with_adapters
from x2c.models.unet3d import UNet3D

STEPS_UNREAD = 10
"""Steps whose losses stay on the GPU before they are read: each reading makes the GPU wait."""


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite: training stops without a further checkpoint."""


class Trainer:
    """Trains one stage of a denoiser; if the stage has a checkpoint, training resumes from the newest."""

    def __init__(
        self, config: Config, planned: PlannedStage, denoiser: UNet3D, parts: Parts, accelerator: Accelerator
    ) -> None:
        self.config, self.stage, self.accelerator = config, planned.stage, accelerator
        self.stage_name = planned.name
        # Stages on the same patients must not repeat each other's noise.
        self.seed = seed_of("stage", config.seed, planned.name)
        self.directory = planned.directory
        self.data = parts.data(planned.stage.data)
        self.process = Process.of(config.diffusion, accelerator.device)
        self.prediction, self.guidance = build_prediction(config), build_guidance(config)
        self.conditional = planned.stage.condition != "none"
        self.before, self.last = planned.before, planned.stage is config.stages.last
        with seeded(config.seed):
            self.loss = WeightedSum(loss_of(config, planned.stage), parts.loss_parts(self.data))
            model = self._trainable(denoiser)
        self.learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            self.learned, planned.stage.learning_rate, weight_decay=config.training.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, planned.stage.steps)
        self.denoiser, self.optimizer = accelerator.prepare(model, optimizer)
        self.ema = averages(config.training.ema, self.learned)
        self.adversary_optimizer: Any = None
        if (adversary := self.loss.adversary) is not None:
            adam = torch.optim.Adam(
                adversary.discriminator.parameters(),
                adversary.options.learning_rate,
                betas=adversary.options.betas,
                fused=True,
            )
            adversary.discriminator, self.adversary_optimizer = accelerator.prepare(adversary.discriminator, adam)
        accelerator.register_for_checkpointing(self.schedule, self.ema)
        self.step = self.saved = checkpoint.load_newest(accelerator, self.directory.checkpoints)
        self.unread: list[dict[str, Tensor]] = []
        self.read_every = 1 if accelerator.device.type == "cpu" else STEPS_UNREAD
        # After loading, which leaves the averages on the CPU.
        self.ema.to(accelerator.device)
        self.validation: Validation | None = None
        if self.last and config.compute.validation_patients and accelerator.is_main_process:
            self.validation = Validation(config, parts, self.data, accelerator.unwrap_model(self.denoiser))

    def fit(self, report: Reporter) -> None:
        """Train to the stage's last step. Raises Stopped if asked to stop, after this step and its checkpoint."""
        micro_losses: list[dict[str, Tensor]] = []
        with postponed(), closing(self._batches()) as micro_batches:
            for batch in micro_batches:
                micro_losses.append(self._micro_step(batch))
                if self.accelerator.sync_gradients:
                    self.schedule.step()
                    self.step += 1
                    if updates(self.config.training.ema, self.step):
                        self.ema.step(self.learned)
                    self.unread.append(_mean(micro_losses))
                    micro_losses.clear()
                    listening.notify_step()
                    if self._is_due():
                        self._read_losses(report)
                        self._validate_and_save(report)
                        self._stop_if_asked()

    def save(self, path: Path) -> None:
        """Write the averaged weights, or the averaged adapters in peft's format."""
        model = self.accelerator.unwrap_model(self.denoiser)
        self.ema.copy_to(self.learned)
        if not self.accelerator.is_main_process:
            return
        if self.stage.lora_rank:
            save_adapters(model, path)
            return
        with replacing(path) as temporary:
            save_file(model.state_dict(), temporary)

    def _trainable(self, denoiser: UNet3D) -> nn.Module:
        """The network this stage trains; its unused parameters are frozen, as they would stall several processes."""
        if self.stage.lora_rank:
            return with_adapters(denoiser, self.stage.lora_rank)
        denoiser.null_condition.requires_grad_(not self.conditional or self.guidance.drops_condition)
        denoiser.condition_projection.requires_grad_(self.conditional)
        if denoiser.label_embedding is not None:
            denoiser.label_embedding.requires_grad_(self.conditional)
        return denoiser

    def _micro_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Do forward and backward passes, with the optimizers' steps when they are due; return the losses."""
        with self.accelerator.accumulate(self.denoiser):
            step = self._forward(batch)
            total, values = self.loss(step)
            self.accelerator.backward(total)
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.learned, self.config.training.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.loss.adversary is not None:
                values["discriminator"] = self._train_discriminator(step)
        return {"loss": total.detach(), **{f"loss/{name}": value.detach() for name, value in values.items()}}

    def _forward(self, batch: dict[str, Tensor]) -> Step:
        """Noise once and call the denoiser once; x0 is in full precision for the terms on it."""
        latents, noise, timesteps = batch["latents"], batch["noise"], batch["timesteps"]
        noisy = self.process.add_noise(latents, noise, timesteps)
        given = self.guidance.training(batch["labels"], batch["chance"]) if self.conditional else {}
        output = self.denoiser(noisy, timesteps, batch.get("condition"), **given).float()
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
        self.accelerator.backward(loss)
        self.adversary_optimizer.step()
        self.adversary_optimizer.zero_grad()
        return loss

    def _is_due(self) -> bool:
        """Return whether losses are read after this step, together with all other work that waits for a GPU."""
        training = self.config.training
        last = self.step == self.stage.steps
        return last or any(
            self.step % every == 0 for every in (self.read_every, training.validate_every, training.checkpoint_every)
        )

    def _read_losses(self, report: Reporter) -> None:
        """Report the losses of the steps since the last reading, averaged over processes.

        Raises NonFiniteLoss, on every process, for the first step with a loss that is not finite on any.
        """
        names = list(self.unread[0])
        table = torch.stack([torch.stack(list(values.values())) for values in self.unread])
        mean: Any = self.accelerator.reduce(table, "mean")
        before = self.step - len(self.unread)
        self.unread.clear()
        for step, values in enumerate(mean.tolist(), start=before + 1):
            losses = dict(zip(names, values, strict=True))
            self._refuse_non_finite(step, losses)
            report.step(step, losses)

    def _refuse_non_finite(self, step: int, losses: dict[str, float]) -> None:
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if not broken:
            return
        terms = [name.removeprefix("loss/") for name in broken if name != "loss"]
        raise NonFiniteLoss(
            f"step {step}: loss term {', '.join(terms) or 'sum'} is not finite; lower "
            f"{' or '.join(self._remedies(terms))}"
        )

    def _remedies(self, broken: list[str]) -> list[str]:
        """Return the options that losses depend on."""
        rate = f"--stages.{self.stage_name}.learning_rate"
        # Stages that rows share have no weights of their own.
        weighted = self.config.terms_of(self.stage)
        weights = [f"--loss.{name}.weight" for name in broken if name in weighted]
        return [rate, *weights, *(["--loss.adv.learning_rate"] if "discriminator" in broken else [])]

    def _batches(self) -> Generator[dict[str, Tensor], None, None]:
        """Yield the micro-batches from the current step to the last."""
        per_step = self._samples_per_step()
        pairs = self._pairs("train", self.stage.steps * per_step, self.loss.slices_per_volume)
        workers = self.config.compute.loader_workers
        return batches(pairs, self.step * per_step, self._batch_per_process(), self.accelerator, workers)

    def _samples_per_step(self) -> int:
        return self.config.training.batch_size * self.config.training.accumulation

    def _batch_per_process(self) -> int:
        size, processes = self.config.training.batch_size, self.accelerator.num_processes
        if size % processes:
            raise UserError(f"training.batch_size: expected a multiple of the {processes} processes; got {size}")
        share: int = size // processes
        return share

    def _pairs(self, split: str, length: int, slices_per_volume: int) -> TrainingPairs:
        config = self.config
        data = self.data
        return TrainingPairs(
            data.cohort,
            data.latents,
            data.embeddings if self.conditional else None,
            data.cohort.training_rows if split == "train" else data.cohort.rows(split),
            seed=self.seed,
            num_train_timesteps=config.diffusion.num_train_timesteps,
            length=length,
            slices_per_volume=slices_per_volume,
            window_hu=data.window_hu,
        )

    def _validate_and_save(self, report: Reporter) -> None:
        training = self.config.training
        last = self.step == self.stage.steps
        validates = last or self.step % training.validate_every == 0
        if validates:
            report.log(self.step, {"validation_loss": self._validation_loss(), **self._validation_scores()})
        if last or self.step % training.checkpoint_every == 0:
            self._save_checkpoint()
        if validates and self.last and not last:
            listening.notify_validation(self.before + self.step)

    def _validation_scores(self) -> dict[str, float]:
        """Return scores of what the averaged denoiser samples, if they are asked for."""
        if self.validation is None:
            return {}
        with _weights_of(self.ema, self.learned):
            return self.validation.scores()

    def _save_checkpoint(self) -> None:
        self.directory.sync_log()
        checkpoint.save(self.accelerator, self.directory.checkpoints, self.step)
        self.saved = self.step

    def _stop_if_asked(self) -> None:
        """Raise Stopped if a stop was requested; all processes stop after the same step, whichever was asked."""
        number = requested_signal()
        if self.accelerator.num_processes > 1:
            number = int(self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).max())
        if number:
            if self.saved < self.step:
                self._save_checkpoint()
            step = f"step {self.step} of {self.stage.steps} of stage {self.stage_name}"
            raise Stopped(number, f"after {step}, of which there is a checkpoint")

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Return the averaged denoiser's mean absolute error on validation patients, at noise that never changes."""
        pairs = self._pairs("val", len(self.data.cohort.rows("val")), 0)
        loader = DataLoader(pairs, self.config.training.batch_size)
        losses: list[Tensor] = []
        with _weights_of(self.ema, self.learned):
            for batch in loader:
                step = self._forward({key: value.to(self.accelerator.device) for key, value in batch.items()})
                losses += (step.output - step.target).abs().flatten(1).mean(1).unbind()
        return float(torch.stack(losses).mean())


def averages(config: EMA, learned: list[nn.Parameter]) -> EMAModel:
    """Return the moving average of parameters; it is updated at every step that `updates` names."""
    if not config.after:
        return EMAModel(learned, decay=config.decay, foreach=True)
    return EMAModel(
        learned, decay=config.decay, min_decay=config.decay, update_after_step=config.after - 1, foreach=True
    )


def updates(config: EMA, step: int) -> bool:
    """Return whether the average is updated after an optimizer step, counted from 1."""
    return step <= (config.after or config.every) or step % config.every == 0


def _mean(losses: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average each loss over an optimizer step's micro-steps."""
    table = torch.stack([torch.stack(list(values.values())) for values in losses]).mean(dim=0)
    return dict(zip(losses[0], table.unbind(), strict=True))


@contextmanager
def _weights_of(ema: EMAModel, learned: list[nn.Parameter]) -> Iterator[None]:
    """Use the averaged weights inside the block and restore the model's own afterwards."""
    ema.store(learned)
    ema.copy_to(learned)
    try:
        yield
    finally:
        ema.restore(learned)
