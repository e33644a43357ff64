"""Training stage by stage. A stage's result is shared under the hash of all that it depends on: it is trained once."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from x2c.core.config import Config
from x2c.core.console import console
from x2c.core.errors import UserError
from x2c.core.files import link_or_copy, replacing
from x2c.core.lease import LeaseLost
from x2c.core.listening import Pruned
from x2c.core.run import RunDirectory
from x2c.engine import checkpoint
from x2c.engine.build import build_denoiser
from x2c.engine.costs import evaluation_seconds
from x2c.engine.identity import ADAPTER, WEIGHTS, PlannedStage, planned_stages
from x2c.engine.parts import Parts
from x2c.engine.reporting import Reporter
from x2c.engine.trainer import Trainer
from x2c.models.checkpoints import LABELS, compare, load_into, read_start


def train_stages(config: Config, run: RunDirectory, parts: Parts, accelerator: Accelerator) -> None:
    """Train the stages that are not trained yet, and put the last stage's weights into the run directory.

    A stage that another process is training is waited for. The run's own metrics.jsonl contains every stage, whichever
    process trained it.
    """
    run.forget_after(-1)
    earlier: list[PlannedStage] = []
    for planned in planned_stages(config):
        planned.directory.writes = run.writes
        while not _come_by(config, run, parts, accelerator, planned, earlier):
            run.forget_after(planned.before)
        earlier.append(planned)
    if accelerator.is_main_process:
        _take_weights(config, run, earlier)
    accelerator.wait_for_everyone()


def check_start(config: Config) -> None:
    """Refuse weights to start from that are missing, unreadable, or of another architecture."""
    if config.stages.start:
        with torch.device("meta"):
            denoiser = build_denoiser(config)
        compare(denoiser.state_dict(), *_start(config, []), introduced=LABELS)


def trained_denoiser(config: Config, run: RunDirectory, adapter: Path | None = None) -> nn.Module:
    """Return the denoiser of a finished training from its run directory, in eval mode.

    Adapters are merged into it: those given, or the run's own.
    """
    denoiser: nn.Module = build_denoiser(config)
    load_into(denoiser, load_file(run.path / WEIGHTS), str(run.path / WEIGHTS))
    folder = adapter or run.path / ADAPTER
    if adapter or folder.exists():
        from x2c.models.lora import merged

        denoiser = merged(denoiser, folder)
    return denoiser.eval()


def retell(run: RunDirectory, planned: PlannedStage, accelerator: Accelerator) -> None:
    """Report to the run and its trackers what a stage has logged so far."""
    if not run.writes:
        return
    path = planned.directory.path / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        values = json.loads(line)
        step = planned.before + values.pop("step")
        run.log({"step": step, "stage": planned.name, **values})
        accelerator.log(values, step=step)


def _come_by(
    config: Config,
    run: RunDirectory,
    parts: Parts,
    accelerator: Accelerator,
    planned: PlannedStage,
    earlier: list[PlannedStage],
) -> bool:
    """Train a stage, or wait for it; return False if this process's lease expired and another one took the stage."""
    run.report("running", f"train {planned.name}", planned.before, config.steps)
    try:
        with planned.directory.owned(patience_seconds=math.inf):
            accelerator.wait_for_everyone()
            if not planned.directory.done:
                _train(config, run, parts, accelerator, planned, earlier)
            else:
                retell(run, planned, accelerator)
            if accelerator.is_main_process:
                # Only the next stage continues from here, and it takes the averaged weights.
                shutil.rmtree(planned.directory.checkpoints, ignore_errors=True)
    except LeaseLost as lost:
        # The other processes of a run wait for this one's gradients, and have to be restarted with it.
        if lost.lease.title != planned.directory.path.name or accelerator.num_processes > 1:
            raise
        console.print(f"{lost}; waiting for it", markup=False)
        checkpoint.forget(accelerator)
        return False
    return True


def _train(
    config: Config,
    run: RunDirectory,
    parts: Parts,
    accelerator: Accelerator,
    planned: PlannedStage,
    earlier: list[PlannedStage],
) -> None:
    stage = planned.directory
    try:
        stage.report("running", "train", stage.status().get("step", 0), planned.stage.steps)
        start, name = _start(config, earlier)
        denoiser = build_denoiser(config, labels=_has_labels([*earlier, planned]))
        if start:
            load_into(denoiser, start, name, introduced=LABELS)
        trainer = Trainer(config, planned, denoiser, parts, accelerator)
        stage.forget_after(trainer.step)
        retell(run, planned, accelerator)
        steps = planned.stage.steps
        gpu = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else None
        after = evaluation_seconds(config, gpu)
        with Reporter(
            run, accelerator, "train", steps, trainer.step, stage=planned, total=config.steps, after=after
        ) as report:
            trainer.fit(report)
        trainer.save(planned.weights)
    except Pruned:
        # Pruning is not a failure of the stage: the next run that needs it resumes from its checkpoint.
        raise
    except (Exception, KeyboardInterrupt) as error:
        stage.report_end(error)
        raise
    stage.report("done", "done", planned.stage.steps, planned.stage.steps)
    checkpoint.forget(accelerator)


def _has_labels(stages: list[PlannedStage]) -> bool:
    """Return whether conditional training, which brings in label embeddings, has begun."""
    return any(planned.stage.condition != "none" for planned in stages)


def _start(config: Config, earlier: list[PlannedStage]) -> tuple[Mapping[str, Tensor], str]:
    """Return the weights a stage starts from and their origin; none if they are drawn from the seed."""
    if earlier:
        return load_file(_weights_of(earlier[-1])), str(earlier[-1].weights)
    start = config.stages.start
    return (read_start(Path(start)) if start else {}), f"stages.start={start}"


def _weights_of(planned: PlannedStage) -> Path:
    """Return the path of a finished stage's weights. Raises UserError if they were removed."""
    if not planned.weights.exists():
        raise UserError(
            f"{planned.weights}: the weights of stage {planned.name} are gone; "
            f"delete {planned.weights.parent} and it is trained again"
        )
    return planned.weights


def _take_weights(config: Config, run: RunDirectory, stages: list[PlannedStage]) -> None:
    """Put the weights of the last stage into the run directory, as hard links if the file system allows them."""
    *before, last = stages
    whole = (before[-1] if before else None) if last.stage.lora_rank else last
    if last.stage.lora_rank:
        for file in _weights_of(last).iterdir():
            with replacing(run.path / ADAPTER / file.name) as path:
                shutil.copyfile(file, path)
    with replacing(run.path / WEIGHTS) as path:
        if whole is None:
            denoiser = build_denoiser(config)
            load_into(denoiser, *_start(config, []), introduced=LABELS)
            save_file(denoiser.state_dict(), path)
            return
        link_or_copy(_weights_of(whole), path)
