"""Run one experiment, from its config to its scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from x2c.core import weights
from x2c.core.config import Config, Resolution
from x2c.core.console import say, say_where
from x2c.core.errors import UserError
from x2c.core.parallel import cores
from x2c.core.run import RunDirectory, run_identity
from x2c.core.shared import kept_out
from x2c.core.slot import network_of, source_of
from x2c.core.stopping import interruptible
from x2c.data.virtual import VirtualCohort
from x2c.data.volume import window
from x2c.engine import tracking
from x2c.engine.accelerating import accelerated, use_threads
from x2c.engine.baselines import score_baselines
from x2c.engine.evaluation import evaluate
from x2c.engine.identity import data_fingerprint, planned_stages, run_directory
from x2c.engine.kept import forget_batches
from x2c.engine.model_file import write_model
from x2c.engine.parts import check_parts, cohorts, open_parts, perceptual_network
from x2c.engine.provenance import write_provenance
from x2c.engine.scoring import Scorer
from x2c.engine.stages import check_start, train_stages, trained_denoiser
from x2c.losses.combinations import WeightedSum, loss_of
from x2c.losses.combinations import stand_ins as loss_stand_ins


def prepare_patients(configs: Iterable[Config]) -> None:
    """Make the virtual patients of several experiments; each is made once for all sample sizes that they need."""
    asked: dict[tuple[str, str, str], tuple[VirtualCohort, dict[str, Resolution]]] = {}
    for config in configs:
        for data_set in cohorts(config):
            if isinstance(data_set, VirtualCohort):
                key = config.compute.cache, data_set.name, data_set.cohort_fingerprint()
                asked.setdefault(key, (data_set, {}))[1][data_set.fingerprint(config.resolution)] = config.resolution
    for (cache, _, _), (data_set, sizes) in asked.items():
        data_set.make(Path(cache), list(sizes.values()), cores())


def prepare(config: Config) -> None:
    """Make what an experiment shares with others: data, latents, embeddings, auxiliary networks, baselines."""
    check(config)
    use_threads(config)
    device = best_device(config)
    scorer = _load_scorer(config, device)
    parts = open_parts(config, device)
    for planned in planned_stages(config):
        if not planned.directory.done:
            data = parts.data(planned.stage.data)
            _ = data.latents, data.embeddings if planned.stage.condition != "none" else None
            WeightedSum(loss_of(config, planned.stage), parts.loss_parts(data))
    score_baselines(config, parts, scorer)


def run(config: Config) -> RunDirectory:
    """Train, sample and score; resumes if an earlier process was interrupted and returns at once if all is done.

    On an error, status.json says `failed` with the reason, and the error is raised. When a stop is requested, it says
    `interrupted`, and Stopped is raised, whatever other error occurred.
    """
    with interruptible():
        return _run_once(config)


def _run_once(config: Config) -> RunDirectory:
    check(config)
    directory = run_directory(config)
    if directory.done:
        forget_batches(directory)
        return directory
    tracked = {"log_with": list(config.compute.tracker) or None, "project_dir": str(directory.path)}
    # The main process samples and scores while the others wait, at full scale for hours.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=7))
    with accelerated(config, **tracked, kwargs_handlers=[patient]) as accelerator:
        directory.writes = accelerator.is_main_process
        with directory.owned():
            accelerator.wait_for_everyone()
            # Another process may have finished it while this one waited for the lock.
            if not directory.done:
                _run(config, directory, accelerator)
    return directory


def _run(config: Config, directory: RunDirectory, accelerator: Accelerator) -> None:
    try:
        directory.report("running", "prepare")
        if accelerator.is_main_process:
            say(f"{directory.path.name}: preparing data and frozen networks")
        directory.write_config(config)
        scorer = _load_scorer(config, accelerator.device)
        parts = open_parts(config, accelerator.device)
        stand_ins = parts.stand_ins + scorer.stand_ins + loss_stand_ins(config.loss)
        made_from = run_identity(config, data_fingerprint(config))
        write_provenance(directory, config, stand_ins, accelerator.device, made_from)
        tracking.start(accelerator, config, directory)
        train_stages(config, directory, parts, accelerator)
        if accelerator.is_main_process:
            table = evaluate(config, directory, parts, trained_denoiser(config, directory), scorer, accelerator)
            write_model(directory, config, parts)
            score_baselines(config, parts, scorer)
            # Patients' pictures stay on this machine, in samples/.
            of_patients = config.dataset.name == "prepared"
            picture = None if of_patients else _picture(directory, parts.evaluated.window_hu)
            tracking.log_results(accelerator, table, picture, config.steps)
        accelerator.wait_for_everyone()
    except (Exception, KeyboardInterrupt) as error:
        directory.report_end(error)
        raise
    # The run stays done even if a later step fails.
    directory.report("done", "done", config.steps, config.steps)
    if accelerator.is_main_process:
        say(f"{directory.path.name}: done", has_bar=True)
        forget_batches(directory)


def check(config: Config) -> None:
    """Raise UserError for what would fail late: unknown trackers, absent weights or starts, unwritable folders."""
    tracking.check(config.compute.tracker)
    planned_stages(config)
    check_start(config)
    check_parts(config)
    weights.check(config)
    for field in ("runs", "cache"):
        folder = Path(getattr(config.compute, field))
        say_where(f"compute.{field}", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            why = kept_out(folder) or error.strerror
            raise UserError(
                f"compute.{field}: cannot write to {folder} ({why}); set --compute.{field}=FOLDER"
            ) from None


def _load_scorer(config: Config, device: torch.device) -> Scorer:
    """Build the metrics' networks; the loss's perceptual network is tried too, so that missing weights show at once."""
    if (lpips := config.loss.terms.get("lpips")) is not None:
        perceptual_network(network_of(lpips) or "", source_of(lpips))
    return Scorer(config, device)


def best_device(config: Config) -> torch.device:
    """Return the GPU if there is one and the config does not ask for the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not config.compute.cpu else "cpu")


def _picture(directory: RunDirectory, window_hu: tuple[float, float]) -> np.ndarray:
    """Return the kept patients' middle slices, truth above generated, as one grey picture."""
    with np.load(directory.samples / "volumes.npz") as kept:
        rows = [np.hstack(list(kept[name][:, kept[name].shape[1] // 2])) for name in ("truth_hu", "generated_hu")]
    return np.rint(window(np.vstack(rows).astype(np.float32), *window_hu) * 255).astype(np.uint8)
