"""One classification from its configs to a prediction for every patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.stats.operating_point import youden
from x2c.core import weights
from x2c.core.config import DATA_ROLES, Config, DataSlot
from x2c.core.console import say
from x2c.core.errors import UserError
from x2c.core.files import digest, replacing
from x2c.core.identity import identity
from x2c.core.parallel import in_processes
from x2c.core.resolve import resolve
from x2c.core.run import FORMAT_VERSION, RunDirectory
from x2c.core.seeding import seed_of
from x2c.core.stopping import interruptible
from x2c.core.weights import source_fingerprint
from x2c.data.cohort import Cohort
from x2c.data.folds import fold_names, in_fold
from x2c.engine.accelerating import use_threads
from x2c.engine.classification.generated import generated_latents
from x2c.engine.classification.settings import PREFIX, ClassifierSettings, Training, resolve_settings
from x2c.engine.entries import data_set_of
from x2c.engine.experiment import best_device, check
from x2c.engine.identity import data_fingerprint, fold_of
from x2c.engine.parts import open_parts
from x2c.engine.provenance import write_provenance
from x2c.losses.combinations import stand_ins as loss_stand_ins
from x2c.models.classifier import VERSION as CLASSIFIER
from x2c.models.classifier import fit, latent_classifier, logits, xray_classifier
from x2c.models.frozen import StandIn, seeded

ARMS = ("ctpa", "xray", "generated")
FOLDER = "classifications"
"""Folder of classifications within the folder of runs."""
PREDICTIONS = "predictions.parquet"
RADIMAGENET = "radimagenet_resnet50"
UNTRAINED_XRAY = StandIn("xray_classifier", "resnet50_random", "RadImageNet ResNet-50")


@dataclass(frozen=True)
class Request:
    """A request to classify: generators of a variant, and how their volumes are made."""

    variant: str
    scale: str
    seed: int
    overrides: tuple[str, ...] = ()
    generated: Literal["cross_fitted", "single"] = "cross_fitted"

    def config(self, fold: str = "") -> Config:
        """Return the generator's config, in a fold of the data set that its last stage is trained on."""
        mine = [text for text in self.overrides if not text.startswith(PREFIX)]
        config = resolve(self.variant, self.scale, self.seed, mine)
        if not fold:
            return config
        # Other roles may hold the same patients: pretraining on them would let the generator see the tested ones.
        patients = _patients_of(config.evaluated)
        roles = [role for role in DATA_ROLES if role in config.slots and _patients_of(config.data(role)) == patients]
        # JSON's quotes are valid YAML: 1/6 stays text.
        return resolve(self.variant, self.scale, self.seed, [*mine, *(f'{role}.fold="{fold}"' for role in roles)])

    def settings(self) -> ClassifierSettings:
        """Return the classifiers' settings."""
        mine = [text.removeprefix(PREFIX) for text in self.overrides if text.startswith(PREFIX)]
        return resolve_settings(self.scale, mine)


def classify(request: Request) -> RunDirectory:
    """Train and apply the classifiers of all arms and folds; returns the directory with predictions.parquet.

    predictions.parquet has a row for each arm, fold and patient of the fold's test and validation split: arm, fold,
    split, patient, label, score (a logit) and the fold's threshold, which only its validation patients set. A killed
    call resumes with what is not finished; a finished one returns at once. Patients of unknown label are left out.
    Raises UserError if there are no labels, or if the generator would be given them.
    """
    config, settings = request.config(), request.settings()
    _check(config)
    directory = directory_of(request)
    if directory.done:
        return directory
    directory.path.mkdir(parents=True, exist_ok=True)
    with interruptible(), directory.owned():
        try:
            directory.report("running", "prepare")
            use_threads(config)
            _classify(request, config, settings, _radimagenet(settings), directory)
        except (Exception, KeyboardInterrupt) as error:
            directory.report_end(error)
            raise
        directory.report("done", "done")
    return directory


def directory_of(request: Request) -> RunDirectory:
    """Return the directory of a classification, which may not exist yet."""
    key = digest(_made_from(request))
    name = f"{request.variant}-{request.scale}-s{request.seed}-{request.generated}-{key}"
    compute = request.config().compute
    return RunDirectory(Path(compute.runs) / FOLDER / name, lease_seconds=compute.lease_seconds)


def _made_from(request: Request) -> dict[str, object]:
    """Return the recipe that the hash in a classification's name is computed from."""
    config, settings = request.config(), request.settings()
    source = _radimagenet(settings)
    about: dict[str, object] = {
        "network": CLASSIFIER,
        "config": identity(config),
        "data": data_fingerprint(config),
        "generated": request.generated,
    }
    about["settings"] = settings.model_dump(mode="json", exclude={"xrays": {"source"}})
    # Identified by content, not by path.
    about["xrays"] = source and source_fingerprint(str(source), RADIMAGENET)
    return {**about, "format": FORMAT_VERSION}


def fold_file(directory: RunDirectory, arm: str, fold: int) -> Path:
    """Return the file of an arm's predictions in a fold (counted from 1)."""
    return directory.path / "folds" / f"{arm}-{fold}.parquet"


def _classify(
    request: Request, config: Config, settings: ClassifierSettings, source: Path | None, directory: RunDirectory
) -> None:
    device = best_device(config)
    parts = open_parts(config, device)
    data = parts.data(config.stages.last.data)
    cohort = replace(data.cohort, mirrors=False)
    _check_folds(cohort, settings.folds)
    stand_ins = [*parts.stand_ins, *loss_stand_ins(config.loss), *([] if source else [UNTRAINED_XRAY])]
    directory.write_config(config)
    directory.write("classification.json", _about(request, settings))
    write_provenance(directory, config, stand_ins, device, _made_from(request))

    rows, shape = slice(0, len(cohort)), data.latents.raw.shape[1:]
    of_xrays, of_latents = partial(xray_classifier, source), partial(latent_network, shape)
    arms: dict[str, tuple[Callable[[], Tensor], Callable[[], nn.Module], Training]] = {
        "ctpa": (lambda: _tensor(data.latents.raw[rows]), of_latents, settings.volumes),
        "xray": (lambda: _resized(cohort, settings.xrays.size), of_xrays, settings.xrays),
        "generated": (
            lambda: _tensor(_generate(request, settings, directory, _workers(config, device))),
            of_latents,
            settings.volumes,
        ),
    }
    # A classifier needs only the manifest of the cohort: large arrays are not sent to other processes.
    patients = replace(cohort, hu=cohort.hu[:0], radiographs=cohort.radiographs[:0])
    tables = []
    for arm in ARMS:
        inputs, network, training = arms[arm]
        files = [fold_file(directory, arm, place + 1) for place in range(settings.folds)]
        todo = [place for place, file in enumerate(files) if not file.exists()]
        if todo:
            values = inputs()
            names, seeds = fold_names(settings.folds), [seed_of("classifier", request.seed, arm, p) for p in todo]
            jobs = [
                Job(arm, place + 1, values, in_fold(patients, names[place]), seed)
                for place, seed in zip(todo, seeds, strict=True)
            ]
            work = partial(_predicted, network=network, training=training, device=device, config=config)
            directory.report("running", f"classify {arm}", settings.folds - len(todo), settings.folds)
            for place, table in zip(
                todo, in_processes(work, jobs, _workers(config, device), f"classifiers of {arm}"), strict=True
            ):
                with replacing(files[place]) as path:
                    table.to_parquet(path)
                directory.report("running", f"classify {arm}", place + 1, settings.folds)
        tables += [pd.read_parquet(file) for file in files]
    columns = ["arm", "fold", "split", "patient", "label", "score", "threshold"]
    with replacing(directory.path / PREDICTIONS) as path:
        pd.concat(tables, ignore_index=True)[columns].to_parquet(path, write_page_checksum=True)


@dataclass(frozen=True)
class Job:
    """The training of one classifier: its arm, fold, inputs, and the fold's cohort with its splits."""

    arm: str
    fold: int
    """Number of the fold, from 1."""
    inputs: Tensor
    cohort: Cohort
    seed: int


def _predicted(
    job: Job, network: Callable[[], nn.Module], training: Training, device: torch.device, config: Config
) -> pd.DataFrame:
    """Return scores of a fold's test and validation patients by a classifier that was trained on the others."""
    use_threads(config)
    inputs, cohort = job.inputs, job.cohort
    labels, split = cohort.labels, cohort.manifest["split"].to_numpy()
    known = labels != 2
    train = np.flatnonzero((split == "train") & known)
    mean, sd = _moments(inputs[train])
    scaled = (inputs - mean) / sd
    with seeded(job.seed):
        model = network()
        recipe = {name: getattr(training, name) for name in ("steps", "batch_size", "learning_rate", "weight_decay")}
        what = f"classifier of {job.arm}, fold {job.fold}"
        fit(model, scaled[train], torch.from_numpy(labels[train]), **recipe, what=what, device=device)
    tables: list[pd.DataFrame] = []
    for part in ("val", "test"):
        # Each patient's first volume only, as everywhere.
        rows = np.array([row for row in cohort.rows(part) if known[row]], dtype=np.int64)
        scores = logits(model, scaled[rows], training.batch_size, device).double().numpy()
        about = {"split": part, "patient": cohort.patients(rows), "label": labels[rows], "score": scores}
        tables.append(pd.DataFrame(about))
    threshold = youden(tables[0]["label"], tables[0]["score"])
    return pd.concat(tables, ignore_index=True).assign(threshold=threshold, arm=job.arm, fold=job.fold)


def _workers(config: Config, device: torch.device) -> int:
    """Return the number of classifiers, or generators, that are trained at once."""
    return config.compute.workers if device.type == "cpu" else config.compute.workers_per_gpu


def _generate(
    request: Request, settings: ClassifierSettings, directory: RunDirectory, workers: int
) -> NDArray[np.float32]:
    directory.report("running", "generate")
    cross_fitted = request.generated == "cross_fitted"
    say(
        f"generated volumes: {f'{settings.folds} generators, each without a fold' if cross_fitted else 'one generator'}"
    )
    return generated_latents(directory.path / "generators", request.config, settings.folds, cross_fitted, workers)


def _check(config: Config) -> None:
    role = config.stages.last.data
    slot = config.data(role)
    if not data_set_of(slot).labelled:
        raise UserError(f"{role}: a classification needs labels 0 and 1; this data set has not both; take another")
    if fold_of(config, role):
        raise UserError(f"{role}.fold: the classification lays its own folds; leave it out, or set {PREFIX}folds")
    if config.guidance.name == "label" and config.given_label == "known":
        raise UserError(
            "guidance.given: 'known' tells the generator the label that the classifier is asked for; "
            "set --guidance.given=unknown"
        )
    check(config)


def _check_folds(cohort: Cohort, folds: int) -> None:
    try:
        in_fold(cohort, fold_names(folds)[0])
    except UserError as error:
        # The fold comes from this option, so the message names it.
        raise UserError(str(error).replace("dataset.fold", f"{PREFIX}folds")) from None


def _patients_of(slot: DataSlot) -> tuple[str, str]:
    """Return a key of a data set's patients, equal for data sets that differ only in the options excluded here."""
    same = slot.options.model_dump(mode="json", exclude={"window", "flip", "fold", "radiographs"})
    return slot.name, digest(same)


def _radimagenet(settings: ClassifierSettings) -> Path | None:
    asked = settings.xrays.source
    try:
        return weights.local_copy(RADIMAGENET, asked) if asked or weights.find(RADIMAGENET) else None
    except UserError as error:
        # The same file as the loss's, under another option.
        raise UserError(str(error).replace(weights.WEIGHTS[RADIMAGENET].option, f"{PREFIX}xrays.source")) from None


def _about(request: Request, settings: ClassifierSettings) -> dict[str, object]:
    return {
        "variant": request.variant,
        "generated": request.generated,
        "settings": settings.model_dump(mode="json"),
        "arms": list(ARMS),
    }


def latent_network(shape: Sequence[int]) -> nn.Module:
    """Return an untrained classifier of latents [C, D, h, w]."""
    return latent_classifier(shape[0], shape[1], min(shape[-2:]))


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _resized(cohort: Cohort, size: int) -> Tensor:
    """Return X-rays [N, size, size] in [0, 1]."""
    images = torch.from_numpy(cohort.xrays(slice(0, len(cohort))))
    return F.interpolate(images[:, None], size=(size, size), mode="bilinear", antialias=True)[:, 0]


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and SD of rows [N, C, ...] by channel, or of grey images [N, h, w] altogether, broadcastable."""
    axes = [axis for axis in range(rows.dim()) if axis != 1 or rows.dim() == 3]
    return rows.mean(axes, keepdim=True), rows.std(axes, keepdim=True).clamp(min=1e-6)
