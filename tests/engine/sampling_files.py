"""Runs and X-rays that the sampling tests make, and what they read back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import save_file

from x2c import sample
from x2c.core.errors import exit_on_user_error
from x2c.core.resolve import read_config, resolve
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.engine.build import build_denoiser


def another(run: Path, variant: str, folder: Path) -> Path:
    """A run of another variant, done but for the training: its weights are drawn, its frame is that of `run`."""
    places = [f"compute.cache={read_config(run / 'config.yaml').compute.cache}"]
    config = resolve(variant, "smoke", 0, places)
    directory = RunDirectory(folder / f"{variant}-smoke-s0-0123456789ab")
    directory.write_config(config)
    state = build_denoiser(config).state_dict()
    torch.manual_seed(0)
    # Output layer and label embeddings start at zero, where nothing has an effect.
    state = {name: value + 0.05 * torch.randn_like(value) for name, value in state.items()}
    save_file(state, directory.path / "denoiser.safetensors")
    shutil.copy(run / "sampling.json", directory.path)
    directory.report("done", "done")
    return directory.path


def older(run: Path, folder: Path) -> Path:
    """A copy of a run as former versions of x2c left it: not whole."""
    copy = Path(shutil.copytree(run, folder / run.name))
    (copy / "model.json").unlink()
    for part in ("autoencoder", "encoder"):
        shutil.rmtree(copy / part)
    return copy


def write_xray(path: Path, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 5), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def code_of(*arguments: str | Path) -> int:
    """The exit code of sample.py, which runs in this process."""
    with pytest.raises(SystemExit) as ended:
        exit_on_user_error(lambda: sample.main([*map(str, arguments)]))
    return int(ended.value.code or 0)


def typed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "x2c/sample.py", *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True
    )
