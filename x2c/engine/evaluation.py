"""After training: sample every test patient, score, and check that the X-ray matters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from x2c.core.config import Config
from x2c.core.files import replacing
from x2c.core.run import RunDirectory
from x2c.data.volume import unwindow
from x2c.diffusion.process import Process
from x2c.diffusion.samplers import sample
from x2c.engine.build import build_prediction, build_sampler
from x2c.engine.parts import Parts
from x2c.engine.reporting import Reporter
from x2c.engine.scoring import Scorer

Rows = NDArray[np.int64]


class Generator:
    """A trained denoiser as a function from X-ray embeddings to volumes."""

    def __init__(self, config: Config, parts: Parts, denoiser: nn.Module) -> None:
        self.parts, self.denoiser, self.seed = parts, denoiser, config.seed
        self.process = Process.of(config.diffusion, parts.device)
        self.prediction, self.sampler = build_prediction(config), build_sampler(config)

    def __call__(self, rows: Rows, xray_rows: Rows) -> Tensor:
        """Volumes [B, D, H, W] in [0, 1] of the patients in `rows`, given the X-rays of those in `xray_rows`."""
        condition = self.parts.embeddings[xray_rows].to(self.parts.device)
        latents = sample(
            lambda noisy, timesteps: self.denoiser(noisy, timesteps, condition),
            self.prediction,
            self.process,
            self.sampler,
            self.parts.latents.raw.shape[1:],
            self.parts.cohort.patients(rows),
            self.seed,
            x0_range=self.parts.latents.largest,
            device=self.parts.device,
        )
        return self.parts.decode(latents).cpu()


def evaluate(
    config: Config, run: RunDirectory, parts: Parts, denoiser: nn.Module, scorer: Scorer, accelerator: Accelerator
) -> pd.DataFrame:
    """Sample and score the test patients; writes scores.parquet, set_scores.json and samples/volumes.npz.

    Each patient is sampled twice from the same noise: with the own X-ray, and with the next patient's
    (columns `*_other_xray`), the control that tells whether the model uses the X-ray at all.
    """
    rows = parts.cohort.rows("test")
    others = np.roll(rows, -1)
    generate = Generator(config, parts, denoiser)
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // config.evaluation.batch_size))
    own, other = list[Tensor](), list[Tensor]()
    with Reporter(run, accelerator, "sample", len(chunks)) as report:
        for number, chunk in enumerate(chunks, start=1):
            own.append(generate(rows[chunk], rows[chunk]))
            other.append(generate(rows[chunk], others[chunk]))
            report.tick(number)
    run.report("running", "score", len(chunks), len(chunks))
    made, truth = torch.cat(own), true_volumes(config, parts, rows)
    table = score_table(parts, rows, scorer, made, truth)
    for name, values in scorer.per_volume(torch.cat(other), truth).items():
        table[f"{name}_other_xray"] = values
    keep_pictures(config, run, parts, rows, made, truth)
    run.write("set_scores.json", scorer.per_set(made, truth, reference_volumes(config, parts, len(rows))))
    write_scores(run, table)
    return table


def true_volumes(config: Config, parts: Parts, rows: Rows) -> Tensor:
    """The real volumes of rows, [B, D, H, W] in [0, 1]."""
    return torch.from_numpy(parts.cohort.volumes(rows, config.window.low_hu, config.window.high_hu))


def reference_volumes(config: Config, parts: Parts, count: int) -> Tensor:
    """`count` real training volumes, evenly spread over the split."""
    training = parts.cohort.rows("train")
    picked = np.linspace(0, len(training) - 1, count).round().astype(int)
    return true_volumes(config, parts, training[picked])


def score_table(parts: Parts, rows: Rows, scorer: Scorer, volumes: Tensor, truth: Tensor) -> pd.DataFrame:
    """One row per patient: patient, label and the per-volume scores."""
    labels = parts.cohort.manifest["label"].to_numpy()[rows]
    return pd.DataFrame({"patient": parts.cohort.patients(rows), "label": labels, **scorer.per_volume(volumes, truth)})


def write_scores(run: RunDirectory, table: pd.DataFrame) -> None:
    """Write scores.parquet."""
    with replacing(run.scores) as path:
        table.to_parquet(path)


def keep_pictures(config: Config, run: RunDirectory, parts: Parts, rows: Rows, volumes: Tensor, truth: Tensor) -> None:
    """Keep the first test patients' volumes in HU, with truth and radiograph, for figures."""
    count, low, high = config.evaluation.pictures, config.window.low_hu, config.window.high_hu
    run.samples.mkdir(exist_ok=True)
    with replacing(run.samples / "volumes.npz") as path, path.open("wb") as stream:
        np.savez_compressed(
            stream,
            patients=np.array(parts.cohort.patients(rows[:count])),
            generated_hu=np.rint(unwindow(volumes[:count].numpy(), low, high)).astype(np.int16),
            truth_hu=np.rint(unwindow(truth[:count].numpy(), low, high)).astype(np.int16),
            radiographs=np.rint(parts.cohort.xrays(rows[:count]) * 255).astype(np.uint8),
            spacing_mm=np.array(parts.cohort.spacing_mm),
        )
