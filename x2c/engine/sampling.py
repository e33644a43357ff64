"""Sampling of volumes from radiographs by a finished run, written as files."""

from __future__ import annotations

import time
from collections.abc import Generator as Iterated
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from x2c import __version__
from x2c.core.config import Config
from x2c.core.console import Lines, console, progress
from x2c.core.errors import UserError
from x2c.core.files import file_digest, read_json
from x2c.core.run import RunDirectory
from x2c.core.weights import needed, source_fingerprint
from x2c.data.volume import unwindow
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine.accelerating import use_threads
from x2c.engine.experiment import best_device
from x2c.engine.generator import FRAME_FILE, Frame, Generator
from x2c.engine.identity import WEIGHTS
from x2c.engine.model_file import MODEL_FILE, Model, older_model, read_model, write_model
from x2c.engine.parts import Parts
from x2c.engine.sampling_paths import Changes, Request, check_paths, done_run
from x2c.engine.stages import trained_denoiser
from x2c.engine.volume_files import NOTICE, Made, Writer, XRay
from x2c.engine.xrays import open_xrays

NEEDED = ("config.yaml", FRAME_FILE, WEIGHTS)
"""Files that a run directory without model.json must hold to be sampled from."""
OVERRIDABLE = (
    *("sampler", "guidance.scale", "guidance.given", "evaluation.batch_size"),
    *("compute.cache", "compute.cpu", "compute.threads"),
)
MOVABLE = ("autoencoder.source", "encoder.source")
"""Options for paths of weights, which may differ on another machine; their content must not."""


def sample_xrays(request: Request) -> list[Made]:
    """Write `samples` volumes per radiograph, a JSON file beside each, and a picture per radiograph.

    Raises UserError for any error in the request before the first volume is sampled.
    """
    run = finished_run(request.run)
    model = model_of(run)
    config = sampling_config(request, model)
    targets = check_paths(request)
    use_threads(config)
    parts = Parts(config, best_device(config))
    model.load_encoder(parts)
    # Before the autoencoder, which may have to be made, so that unusable X-rays are reported at once.
    xrays = open_xrays(targets, parts, strict=request.strict, in_folder=request.xray.is_dir())
    generate = open_generator(model, config, parts, request.adapter)
    frame = generate.frame
    writer = Writer(request.samples, frame.window_hu, frame.spacing_mm, _record(request, model, config))
    with closing(draw(generate, xrays, request.samples)) as drawn:
        return [writer.take(*one) for one in drawn]


def draw(
    generate: Generator, xrays: Sequence[XRay], samples: int
) -> Iterated[tuple[XRay, int, NDArray[np.float32], float]]:
    """Yield every radiograph with the number of a sample (from 1), the volume [D, H, W] in HU, and its seconds.

    All samples of a radiograph follow one another. Volumes are made `evaluation.batch_size` at a time, under a
    progress bar.
    """
    jobs = [(xray, sample) for xray in xrays for sample in range(1, samples + 1)]
    done = 0
    with progress() as bar:
        task, lines = bar.add_task("sampling volumes", total=len(jobs)), Lines("sampling volumes")
        for batch in _batches(jobs, generate.config.evaluation.batch_size):
            lines.tell(f"{done} of {len(jobs)}")
            began = time.perf_counter()
            volumes = _sample(generate, batch)
            seconds = (time.perf_counter() - began) / len(batch)
            for (xray, sample), volume in zip(batch, volumes, strict=True):
                yield xray, sample, unwindow(volume.numpy(), *generate.frame.window_hu), seconds
                done += 1
                bar.advance(task)


def finished_run(path: Path) -> RunDirectory:
    """Return the run directory at `path`. Raises UserError if it is missing, not done, or has no model to sample."""
    run = done_run(path)
    missing = [name for name in NEEDED if not (path / name).is_file()]
    if missing and not (path / MODEL_FILE).exists():
        raise UserError(
            f"--run: {path} has no {', '.join(missing)}; baselines, stages and runs of an older x2c cannot be sampled; "
            "give the run of a trained variant"
        )
    return run


def model_of(run: RunDirectory) -> Model:
    """Return the model of a finished run. The first sampling completes a run of an older x2c, without model.json.

    Raises UserError if a file of it is missing or damaged.
    """
    return read_model(run.path) if (run.path / MODEL_FILE).exists() else older_model(run)


def sampling_config(request: Changes, model: Model) -> Config:
    """Return the run's config with the changes of a request. Raises UserError for changes that sampling cannot make."""
    trained = model.config()
    for override in request.overrides:
        _check_override(override.partition("=")[0], trained)
    overrides = list(request.overrides)
    names_label = any(override.startswith("guidance.given") for override in overrides)
    if request.label is not None:
        if trained.given_label is None:
            raise UserError(
                f"--label: needs a run with guidance by label; this one's is {trained.guidance.name!r}; leave it out"
            )
        if names_label:
            raise UserError("--label: stands for --guidance.given; both were given; leave one out")
        overrides.append(f"guidance.given={request.label}")
    if request.seed is not None:
        overrides.append(f"seed={request.seed}")
    config = model.config(overrides)
    _check_same_weights(config, request.overrides, model)
    if config.given_label != "known":
        return config
    if names_label:
        raise UserError("--guidance.given: nobody knows a new patient's label; use unknown, negative or positive")
    return model.config([*overrides, "guidance.given=unknown"])


def _check_same_weights(config: Config, asked: Sequence[str], model: Model) -> None:
    """Raise UserError for weights whose fingerprint differs from that of the weights the run was trained with."""
    for option, weights, value in needed(config):
        about = model.values["parts"].get(option.removesuffix(".source")) or {}
        # The digest of a copy in the run's own folder is checked with the folder.
        if not about.get("asset") or (about["copy"] and not any(text.startswith(f"{option}=") for text in asked)):
            continue
        expected, came = about["asset"]["sha256"], source_fingerprint(value, weights.name)
        if expected != came:
            raise UserError(
                f"--{option}: the run was trained with weights whose fingerprint is {expected[:12]}…; {value} has "
                f"{came[:12]}…; give the same weights"
            )


def _check_override(field: str, trained: Config) -> None:
    if not any(field == known or field.startswith(f"{known}.") for known in (*OVERRIDABLE, *MOVABLE)):
        raise UserError(
            f"--{field}: the run was trained with its own value, or sampling does not use it; "
            f"sampling can change {', '.join((*OVERRIDABLE, *MOVABLE))}"
        )
    section, _, option = field.partition(".")
    if section == "guidance" and option not in type(trained.guidance.options).model_fields:
        raise UserError(
            f"--{field}: this run's guidance is {trained.guidance.name!r}, which has no {option}; leave it out"
        )


def open_generator(model: Model, config: Config, parts: Parts, adapter: Path | None = None) -> Generator:
    """Return the run's model, with the autoencoder of `parts` loaded. A run of an older x2c is completed.

    Raises UserError where weights cannot be read, and for adapters of another base.
    """
    weights = model.folder / WEIGHTS
    try:
        denoiser = trained_denoiser(config, RunDirectory(model.folder), adapter)
    except SafetensorError as error:
        raise UserError(f"{weights}: not readable as weights ({error}); copy the run again") from error
    frame = _frame(adapter, model)
    model.load_autoencoder(parts, before_training=lambda: _say_it_is_made(config))
    if not model.whole:
        complete(model, parts)
    return Generator(config, denoiser, parts.autoencoder, frame, parts.device)


def complete(model: Model, parts: Parts) -> None:
    """Add to the run of an older x2c what it lacks, from loaded parts; a read-only folder stays as it is."""
    try:
        write_model(RunDirectory(model.folder), model.config(), parts)
        done = "its autoencoder, encoder and model.json are added: from now on its folder is enough to sample from it"
    except OSError as error:
        done = f"its folder cannot be written ({error.strerror}), so this machine's data and cache stay needed"
    console.print(f"{model.folder.name} is of an older x2c; {done}", markup=False, highlight=False, soft_wrap=True)


def _frame(adapter: Path | None, model: Model) -> Frame:
    """Return the adapters' frame if they have one, else the run's. Raises UserError for adapters of another base."""
    if adapter is None:
        return model.frame
    path = adapter / FRAME_FILE
    if not path.is_file():
        console.print(
            f"--adapter: no {FRAME_FILE} with these adapters: window and scales of the run are assumed", markup=False
        )
        return model.frame
    try:
        values = read_json(path)
        frame = Frame.from_json(values)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: expected what sampling needs; not readable ({error}); copy the run again") from error
    if values.get("base_sha256") not in (None, model.denoiser_sha256):
        raise UserError(
            f"--adapter: {adapter} was trained on other weights than {model.folder / WEIGHTS}; "
            "give the run that it fine-tunes"
        )
    return frame


def _say_it_is_made(config: Config) -> None:
    console.print(
        f"The run's autoencoder, {config.autoencoder.name}, is not in {config.compute.cache}: making it again from "
        f"{config.dataset.name}. --compute.cache=FOLDER names the cache that the run was trained with.",
        markup=False,
    )


def _batches(jobs: list[tuple[XRay, int]], size: int) -> Iterator[list[tuple[XRay, int]]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


def _sample(generate: Generator, batch: list[tuple[XRay, int]]) -> Tensor:
    """Return volumes [B, D, H, W] in [0, 1]. Noise is named by the X-ray's content: neither batch nor order matters."""
    conditions = generate.frame.embeddings.to(torch.cat([xray.embedding for xray, _ in batch]))
    names = [f"xray-{xray.sha256[:16]}-{sample}" for xray, sample in batch]
    return generate(conditions, names, torch.full((len(batch),), UNKNOWN))


def _record(request: Request, model: Model, config: Config) -> dict[str, Any]:
    """Return the fields that the JSON files of all volumes share."""
    run_id = model.values["run"]
    return {
        "notice": NOTICE,
        "run": run_id,
        "variant": config.variant,
        "config": run_id.rpartition("-")[2],
        "commit": model.values["commit"],
        "dirty": model.values["dirty"],
        "seed": config.seed,
        "sampler": config.sampler.name,
        "steps": config.sampler.options.steps,
        "guidance": config.guidance.model_dump(mode="json"),
        "label": config.given_label,
        "adapter_sha256": file_digest(request.adapter / "adapter_model.safetensors") if request.adapter else None,
        "stand_ins": model.values["stand_ins"],
        "x2c": __version__,
    }
