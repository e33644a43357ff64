"""Volumes from radiographs by a finished run, as files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from x2c import __version__
from x2c.core.config import Config
from x2c.core.console import Lines, console, progress
from x2c.core.errors import UserError
from x2c.core.files import file_digest, read_json
from x2c.core.resolve import read_config
from x2c.core.run import RunDirectory
from x2c.core.weights import needed, source_fingerprint
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine.accelerating import use_threads
from x2c.engine.experiment import best_device
from x2c.engine.generator import FRAME_FILE, Frame, Generator
from x2c.engine.identity import WEIGHTS
from x2c.engine.parts import Parts
from x2c.engine.sampling_paths import Request, check_paths, done_run
from x2c.engine.stages import trained_denoiser
from x2c.engine.volume_files import NOTICE, Made, Writer, XRay
from x2c.engine.xrays import open_xrays

NEEDED = ("config.yaml", FRAME_FILE, WEIGHTS)
"""Files that a run directory must hold to be sampled from."""
OVERRIDABLE = ("sampler", "guidance.scale", "guidance.given", "evaluation.batch_size")
OVERRIDABLE += ("compute.cache", "compute.cpu", "compute.threads")
MOVABLE = ("autoencoder.source", "encoder.source")
"""Where weights lie may differ on another machine; what they hold may not."""
SCORING_PARTS = ("perceptual", "features")
"""Stand-ins of metrics: no volume depends on them."""


def sample_xrays(request: Request) -> list[Made]:
    """Write `samples` volumes per radiograph, a JSON file beside each, and a picture per radiograph.

    Raises UserError for anything that is wrong with the request before the first volume is sampled.
    """
    run = finished_run(request.run)
    config = sampling_config(request, run)
    targets = check_paths(request)
    use_threads(config)
    parts = Parts(config, best_device(config))
    parts.load_encoder()
    # Before the autoencoder, which may have to be made: X-rays that cannot be used are told of at once.
    xrays = open_xrays(targets, parts, strict=request.strict, in_folder=request.xray.is_dir())
    generate = _generator(request, run, config, parts)
    frame = generate.frame
    writer = Writer(request.samples, frame.window_hu, frame.spacing_mm, _record(request, run, config))
    jobs = [(xray, sample) for xray in xrays for sample in range(1, request.samples + 1)]
    made: list[Made] = []
    with progress() as bar:
        task, lines = bar.add_task("sampling volumes", total=len(jobs)), Lines("sampling volumes")
        for batch in _batches(jobs, config.evaluation.batch_size):
            lines.tell(f"{len(made)} of {len(jobs)}")
            began = time.perf_counter()
            volumes = _sample(generate, batch)
            seconds = (time.perf_counter() - began) / len(batch)
            for (xray, sample), volume in zip(batch, volumes, strict=True):
                made.append(writer.take(xray, sample, volume.numpy(), seconds))
                bar.advance(task)
    return made


def finished_run(path: Path) -> RunDirectory:
    """The run directory at `path`. Raises UserError where there is none, it is not done, or has no model to sample."""
    run = done_run(path)
    if missing := [name for name in NEEDED if not (path / name).is_file()]:
        raise UserError(
            f"--run: {path} has no {', '.join(missing)}; baselines, stages and runs of an older x2c cannot be sampled; "
            "give the run of a trained variant"
        )
    return run


def sampling_config(request: Request, run: RunDirectory) -> Config:
    """The run's config with what the request changes of it. Raises UserError for changes that sampling cannot make."""
    path = run.path / "config.yaml"
    trained = read_config(path)
    for override in request.overrides:
        _check_override(override.partition("=")[0], trained)
    overrides = list(request.overrides)
    names_label = any(override.startswith("guidance.given") for override in overrides)
    if request.label is not None:
        if not hasattr(trained.guidance.options, "given"):
            raise UserError(
                f"--label: needs a run with guidance by label; this one's is {trained.guidance.name!r}; leave it out"
            )
        if names_label:
            raise UserError("--label: stands for --guidance.given; both were given; leave one out")
        overrides.append(f"guidance.given={request.label}")
    if request.seed is not None:
        overrides.append(f"seed={request.seed}")
    config = read_config(path, overrides)
    _check_same_weights(config, run)
    if getattr(config.guidance.options, "given", "") != "known":
        return config
    if names_label:
        raise UserError("--guidance.given: nobody knows a new patient's label; use unknown, negative or positive")
    return read_config(path, [*overrides, "guidance.given=unknown"])


def _check_same_weights(config: Config, run: RunDirectory) -> None:
    """Refuse weights that lie elsewhere than when the run was trained and are others."""
    trained_with = (read_json(run.path / "provenance.json") or {}).get("weights") or {}
    for option, weights, value in needed(config):
        expected = (trained_with.get(option) or {}).get("sha256")
        if option in MOVABLE and expected not in (None, came := source_fingerprint(value, weights.name)):
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
    if section == "guidance" and not hasattr(trained.guidance.options, option):
        raise UserError(
            f"--{field}: this run's guidance is {trained.guidance.name!r}, which has no {option}; leave it out"
        )


def _generator(request: Request, run: RunDirectory, config: Config, parts: Parts) -> Generator:
    """The run's model, with the autoencoder loaded."""
    try:
        denoiser = trained_denoiser(config, run, request.adapter)
    except SafetensorError as error:
        raise UserError(f"{run.path / WEIGHTS}: not readable as weights ({error}); copy the run again") from error
    parts.load_autoencoder(before_training=lambda: _say_it_is_made(config))
    return Generator(config, denoiser, parts.autoencoder, _frame(request, run), parts.device)


def _frame(request: Request, run: RunDirectory) -> Frame:
    """The frame of the adapters where they bring one, else the run's. Raises UserError for adapters of another base."""
    path = run.path / FRAME_FILE
    if request.adapter is not None and (request.adapter / FRAME_FILE).is_file():
        path = request.adapter / FRAME_FILE
    elif request.adapter is not None:
        console.print(
            f"--adapter: no {FRAME_FILE} with these adapters: window and scales of the run are assumed", markup=False
        )
    try:
        values = read_json(path)
        frame = Frame.from_json(values)
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: expected what sampling needs; not readable ({error}); copy the run again") from error
    if values.get("base_sha256") not in (None, file_digest(run.path / WEIGHTS)):
        raise UserError(
            f"--adapter: {request.adapter} was trained on other weights than {run.path / WEIGHTS}; "
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
    """Volumes [B, D, H, W] in [0, 1]. Noise is named by the X-ray's content: neither batch nor order matters."""
    conditions = generate.frame.embeddings.to(torch.cat([xray.embedding for xray, _ in batch]))
    names = [f"xray-{xray.sha256[:16]}-{sample}" for xray, sample in batch]
    return generate(conditions, names, torch.full((len(batch),), UNKNOWN))


def _record(request: Request, run: RunDirectory, config: Config) -> dict[str, Any]:
    """Fields that the JSON files of all volumes share."""
    provenance = read_json(run.path / "provenance.json") or {}
    run_id = run.path.resolve().name
    return {
        "notice": NOTICE,
        "run": run_id,
        "variant": config.variant,
        "config": run_id.rpartition("-")[2],
        "commit": provenance.get("commit"),
        "dirty": provenance.get("dirty"),
        "seed": config.seed,
        "sampler": config.sampler.name,
        "steps": config.sampler.options.model_dump()["steps"],
        "guidance": config.guidance.model_dump(mode="json"),
        "label": getattr(config.guidance.options, "given", None),
        "adapter_sha256": file_digest(request.adapter / "adapter_model.safetensors") if request.adapter else None,
        "stand_ins": [s for s in provenance.get("stand_ins", []) if s["part"] not in SCORING_PARTS],
        "x2c": __version__,
    }
