"""Evaluation after training: sample every test patient, score, and check that the X-ray matters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.metrics.image import psnr
from x2c.core.config import Config
from x2c.core.console import say
from x2c.core.files import file_digest, replacing, write_json
from x2c.core.run import RunDirectory
from x2c.data.volume import unwindow
from x2c.engine.generator import FRAME_FILE, Frame, Generator
from x2c.engine.identity import ADAPTER, WEIGHTS
from x2c.engine.kept import KeptBatches
from x2c.engine.parts import Data, Parts
from x2c.engine.reporting import Reporter
from x2c.engine.scoring import Features, Scorer, groups

Rows = NDArray[np.int64]
Made = Callable[[Rows], Tensor]
"""Returns the volumes [B, D, H, W] in [0, 1] of the tested patients at the given positions."""
WORST_BY = {"psnr": +1, "ssim_2d": +1, "lpips": -1}
"""Scores whose worst cases are kept; +1 if a low score is bad, -1 if a high one is."""
WORST_OF_EACH = 2


def evaluate(
    config: Config, run: RunDirectory, parts: Parts, denoiser: nn.Module, scorer: Scorer, accelerator: Accelerator
) -> pd.DataFrame:
    """Sample and score the test patients.

    Writes scores.parquet, set_scores.json, samples/volumes.npz, samples/worst.npz, and the frame, also beside adapters.
    Each patient is sampled twice from the same noise: with the own X-ray, and with the next patient's
    (columns `*_other_xray`), the control that tells whether the model uses the X-ray at all. With `evaluation.samples`
    above one, each is sampled again from other noise (columns `psnr_of_one`, `psnr_of_mean`, `spread_hu`). Sampled
    batches are cached on disk and scored from there, a few volumes at a time, so memory does not grow with the number
    of patients. A killed evaluation resumes after the last batch it sampled; `forget_batches` deletes this cache.
    """
    data = parts.evaluated
    rows = data.cohort.rows("test")
    others = np.roll(rows, -1)
    labels = torch.from_numpy(data.cohort.labels)
    frame = Frame.of(data)
    write_frame(run, frame)
    generate = Generator(config, denoiser, parts.autoencoder, frame, parts.device)
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // config.evaluation.batch_size))
    adapters = sorted((run.path / ADAPTER).glob("*.safetensors"))
    kept = KeptBatches(run, run.path / WEIGHTS, *adapters)
    spreads = list[dict[str, NDArray[np.float64]]]()

    def sampled(kind: str, xrays: Rows, chunk: Rows, draw: int = 1) -> Tensor:
        name = f"{kind}-{chunk[0]:05d}-{chunk[-1]:05d}"
        volumes = kept.get(name)
        if volumes is None:
            patients = data.cohort.patients(rows[chunk])
            names = patients if draw == 1 else [f"{patient}-{draw}" for patient in patients]
            volumes = kept.put(name, generate(data.embeddings[xrays[chunk]], names, labels[rows[chunk]]))
        return volumes

    with Reporter(run, accelerator, "sample", len(chunks)) as report:
        for number, chunk in enumerate(chunks, start=1):
            own = sampled("own", rows, chunk)
            sampled("other", others, chunk)
            again = [sampled(f"own{draw}", rows, chunk, draw) for draw in range(2, config.evaluation.samples + 1)]
            if again:
                spreads.append(spread(torch.stack([own, *again]), data.true_volumes(rows[chunk]), data.window_hu))
            report.tick(number)
    run.report("running", "score", len(chunks), len(chunks))
    say(f"{run.path.name.rpartition('-')[0]}: scoring {len(rows)} patients, with their own X-rays and with others'")
    made = _from_batches(chunks, functools.partial(sampled, "own", rows))
    with_other_xray = _from_batches(chunks, functools.partial(sampled, "other", others))
    table, sets = score(data, rows, scorer, made, with_other_xray)
    if spreads:
        table = table.assign(**{name: np.concatenate([part[name] for part in spreads]) for name in spreads[0]})
    keep_pictures(config, run, data, rows, made, table)
    run.write("set_scores.json", sets)
    write_scores(run, table)
    return table


def _from_batches(chunks: list[Rows], batch: Callable[[Rows], Tensor]) -> Made:
    """Return the volumes at positions; each of `chunks` is sampled together and read by `batch`."""
    read = functools.lru_cache(maxsize=1)(lambda number: batch(chunks[number]))
    found = [(number, offset) for number, chunk in enumerate(chunks) for offset in range(len(chunk))]

    def made(places: Rows) -> Tensor:
        return torch.stack([read(number)[offset] for number, offset in (found[place] for place in places)])

    return made


def write_frame(run: RunDirectory, frame: Frame) -> None:
    """Write the frame; also beside adapters, which fit only this frame and these base weights."""
    run.write(FRAME_FILE, frame.as_json())
    if (run.path / ADAPTER).exists():
        base = file_digest(run.path / WEIGHTS)
        write_json(run.path / ADAPTER / FRAME_FILE, {**frame.as_json(), "base_sha256": base})


def score(
    data: Data, rows: Rows, scorer: Scorer, made: Made, with_other_xray: Made | None = None
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Return a row per patient, with the scores of the volumes made for it, and the scores of the set.

    Only as many volumes are in memory at a time as networks take at once.
    """
    tables: list[pd.DataFrame] = []
    of_made, of_true = list[Features](), list[Features]()
    for places in groups(len(rows), data.shape):
        volumes, truth = made(places), data.true_volumes(rows[places])
        table = score_table(data, rows[places], scorer, volumes, truth)
        if with_other_xray is not None:
            for name, values in scorer.per_volume(with_other_xray(places), truth).items():
                table[f"{name}_other_xray"] = values
        tables.append(table)
        of_made.append(scorer.features_of(volumes))
        of_true.append(scorer.features_of(truth))
    sets = scorer.per_set(Features.joined(of_made), Features.joined(of_true), reference(data, len(rows), scorer))
    return pd.concat(tables, ignore_index=True), sets


def reference(data: Data, count: int, scorer: Scorer) -> Features:
    """Return the features of `count` real training volumes, evenly spread over the split."""
    training = data.cohort.rows("train")
    picked = training[np.linspace(0, len(training) - 1, count).round().astype(int)]
    return Features.joined(
        [scorer.features_of(data.true_volumes(picked[places])) for places in groups(count, data.shape)]
    )


def score_table(data: Data, rows: Rows, scorer: Scorer, volumes: Tensor, truth: Tensor) -> pd.DataFrame:
    """Return one row per patient: patient, label and the per-volume scores."""
    scores = scorer.per_volume(volumes, truth)
    structures = data.structures(rows)
    if structures is not None:
        scores |= scorer.per_structure(volumes, truth, structures, data.cohort.spacing_mm)
    return pd.DataFrame({"patient": data.cohort.patients(rows), "label": data.cohort.labels[rows], **scores})


def spread(samples: Tensor, truth: Tensor, window_hu: tuple[float, float]) -> dict[str, NDArray[np.float64]]:
    """Compare samples [K, B, D, H, W] of the same X-rays: their spread, and the PSNR of one sample and of their mean.

    Volumes in [0, 1]. psnr_of_one: the mean of K samples' PSNR, dB. psnr_of_mean: of the mean volume. spread_hu: SD over
    the samples (n - 1), its mean over voxels. Each [B].
    """
    low, high = window_hu
    each = torch.stack([psnr(volumes, truth) for volumes in samples]).double()
    deviation = samples.double().std(dim=0).flatten(1).mean(1) * (high - low)
    return {
        "psnr_of_one": each.mean(0).numpy(),
        "psnr_of_mean": psnr(samples.mean(0), truth).double().numpy(),
        "spread_hu": deviation.numpy(),
    }


def write_scores(run: RunDirectory, table: pd.DataFrame) -> None:
    """Write scores.parquet with checksums, so that readers notice a flipped bit."""
    with replacing(run.scores) as path:
        table.to_parquet(path, write_page_checksum=True)


def keep_pictures(config: Config, run: RunDirectory, data: Data, rows: Rows, made: Made, table: pd.DataFrame) -> None:
    """Keep volumes for figures: the first test patients in volumes.npz, those with the worst scores in worst.npz."""
    run.samples.mkdir(exist_ok=True)
    first = np.arange(min(config.evaluation.pictures, len(rows)))
    for name, picked in (("volumes.npz", first), ("worst.npz", worst_cases(table))):
        _keep(run.samples / name, data, rows[picked], made(picked))


def worst_cases(table: pd.DataFrame) -> Rows:
    """Return the row numbers of the WORST_OF_EACH patients with the worst value of each score."""
    found = {name: np.argsort(sign * table[name].to_numpy(), kind="stable") for name, sign in WORST_BY.items()}
    return np.array(sorted({int(row) for order in found.values() for row in order[:WORST_OF_EACH]}))


def _keep(file: Path, data: Data, rows: Rows, volumes: Tensor) -> None:
    low, high = data.window_hu
    truth = data.true_volumes(rows)
    structures = data.structures(rows)
    # Unknown structures are left out: no file may claim that a patient has no embolus.
    clots = {} if structures is None else {"clot_share": np.rint(structures["clot"].numpy() * 255).astype(np.uint8)}
    with replacing(file) as path, path.open("wb") as stream:
        np.savez_compressed(
            stream,
            patients=np.array(data.cohort.patients(rows)),
            generated_hu=np.rint(unwindow(volumes.numpy(), low, high)).astype(np.int16),
            truth_hu=np.rint(unwindow(truth.numpy(), low, high)).astype(np.int16),
            radiographs=np.rint(data.cohort.xrays(rows) * 255).astype(np.uint8),
            spacing_mm=np.array(data.cohort.spacing_mm),
            labels=data.cohort.labels[rows],
            **clots,
        )
