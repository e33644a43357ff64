"""Identity of a config's run and stages, known before anything heavy is imported or computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from x2c.core.config import Config, Stage
from x2c.core.errors import UserError
from x2c.core.files import digest
from x2c.core.registry import AUTOENCODERS
from x2c.core.run import FORMAT_VERSION, RunDirectory, run_identity, run_name
from x2c.core.weights import source_fingerprint
from x2c.engine.entries import data_set_of, encoder_of

ADAPTER, WEIGHTS = "adapter", "denoiser.safetensors"
"""Names of weights in the folder of a stage or run: adapters, and a denoiser's averaged weights."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a variant and the directory of its result, which may not exist yet."""

    name: str
    stage: Stage
    key: str
    """Hash of everything that the weights depend on: runs with equal keys share one training."""
    before: int
    """Number of optimizer steps of the stages before it."""
    directory: RunDirectory

    @property
    def weights(self) -> Path:
        """Path of the averaged weights at its end; a folder of adapters if only those were trained."""
        return self.directory.path / (ADAPTER if self.stage.lora_rank else WEIGHTS)


def data_fingerprint(config: Config, role: str | None = None) -> str:
    """Return the fingerprint of a role's data set, by default the evaluated one's; known before the data are made."""
    role = role or config.stages.last.data
    return _of_fold(array_fingerprint(config, role), fold_of(config, role))


def array_fingerprint(config: Config, role: str) -> str:
    """Return a fingerprint of what arrays computed from a data set depend on: its rows, in whatever split they are."""
    made = _fingerprint(config, role)
    # Mirrored pairs are additional rows, made of the training split only.
    mirrored = config.data(role).options.flip
    return digest({"data": made, "flip": True, "fold": fold_of(config, role)}) if mirrored else made


def fold_of(config: Config, role: str) -> str:
    """Return the fold of cross-validation that a data set is in; empty for its own splits."""
    return config.data(role).options.fold


def cohort_fingerprint(config: Config) -> str:
    """Return a fingerprint of the evaluated patients, the same at all sample sizes: the rows of a table share it."""
    return _of_fold(data_set_of(config.evaluated).cohort_fingerprint(), fold_of(config, config.stages.last.data))


def _of_fold(fingerprint: str, fold: str) -> str:
    return digest({"data": fingerprint, "fold": fold}) if fold else fingerprint


def home_fingerprint(config: Config) -> str | None:
    """Return the fingerprint of the data that an autoencoder is trained on here; None if it is not trained here."""
    if not AUTOENCODERS.get(config.autoencoder.name).trained_here:
        return None
    return digest({"data": _fingerprint(config, "dataset"), "window": _window(config, "dataset")})


def run_directory(config: Config) -> RunDirectory:
    """Return the directory of a config's run, which may not exist yet."""
    return Identity(config).run_directory(config.seed)


def planned_stages(config: Config) -> list[PlannedStage]:
    """Return the stages of a config, with the keys by which results are shared. Raises UserError for a lost start."""
    return Identity(config).planned_stages(config.seed)


class Identity:
    """Run ids and stage keys of configs that differ only by their seed; everything else is computed once."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def run_directory(self, seed: int) -> RunDirectory:
        """Return the directory of the run with a seed, which may not exist yet."""
        made_from = {**self._made_from, "config": {**self._made_from["config"], "seed": seed}}
        path = self._runs / run_name(self._config, made_from)
        return RunDirectory(path, lease_seconds=self._config.compute.lease_seconds)

    def planned_stages(self, seed: int) -> list[PlannedStage]:
        """Return the stages of the run with a seed. Raises UserError for a lost start."""
        config, key, before = self._config, self._start, 0
        planned: list[PlannedStage] = []
        for name, stage in config.stages.each.items():
            recipe = {**self._recipes[name], "seed": seed}
            key = digest({"start": key, "name": name, "recipe": recipe, "format": FORMAT_VERSION})
            path = self._stages / f"{name}-{config.scale}-s{seed}-{key}"
            directory = RunDirectory(path, lease_seconds=config.compute.lease_seconds)
            planned.append(PlannedStage(name, stage, key, before, directory))
            before += stage.steps
        return planned

    @cached_property
    def _runs(self) -> Path:
        return Path(self._config.compute.runs)

    @cached_property
    def _stages(self) -> Path:
        return self._runs / "stages"

    @cached_property
    def _made_from(self) -> dict[str, Any]:
        return run_identity(self._config, data_fingerprint(self._config))

    @cached_property
    def _start(self) -> str:
        return _start_fingerprint(self._config.stages.start)

    @cached_property
    def _recipes(self) -> dict[str, dict[str, Any]]:
        config, whole = self._config, self._made_from["config"]
        return {name: _recipe(config, stage, whole) for name, stage in config.stages.each.items()}


def _recipe(config: Config, stage: Stage, whole: dict[str, Any]) -> dict[str, Any]:
    """Return what a stage's weights depend on, besides its start; `whole` is the config's identity."""
    shared = ("seed", "training", "denoiser", "diffusion", "prediction", "latents", "autoencoder", "conditioning")
    recipe: dict[str, Any] = {name: whole[name] for name in shared}
    recipe["stage"] = stage.model_dump(mode="json", exclude={"data"})
    recipe["data"] = {"set": data_fingerprint(config, stage.data), "window": _window(config, stage.data)}
    recipe["home"] = home_fingerprint(config)
    # The resulting width, by whatever rule it was chosen.
    recipe["denoiser"] = {**whole["denoiser"], "width": None, "dim": config.denoiser_dim}
    encoder = encoder_of(config)
    recipe["condition_inputs"] = [encoder.dimension, encoder.projection]
    if stage.condition != "none":
        recipe["encoder"] = whole["encoder"]
        if "embeddings" in whole:
            recipe["embeddings"] = whole["embeddings"]
        without = config.guidance.options.sampling_only
        recipe["guidance"] = {key: value for key, value in whole["guidance"].items() if key not in without}
    if terms := config.terms_of(stage):
        recipe["loss"] = {term: whole["loss"][term] for term in terms}
    return recipe


def _fingerprint(config: Config, role: str) -> str:
    return data_set_of(config.data(role)).fingerprint(config.resolution)


def _window(config: Config, role: str) -> dict[str, float]:
    return config.data(role).options.window.model_dump(mode="json")


def _start_fingerprint(start: str) -> str:
    if start and not Path(start).is_file():
        raise UserError(f"stages.start: no file {start}; give a denoiser.safetensors or a public checkpoint (.pt)")
    return start and source_fingerprint(start)
