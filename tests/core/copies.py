"""Copies of pretrained weights as tests make them: a few bytes under the files' real names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from x2c.core.weights import WEIGHTS

KL, VAE = WEIGHTS["kl_f8"].source, "diffusion_pytorch_model.safetensors"
CONTENT = {"config.json": b"{}", VAE: b"the weights"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fill(folder: Path, **changes: bytes) -> Path:
    """A folder with CONTENT in it."""
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(changes.get(name.split(".")[0], content))
    return folder


def hub_cache(tmp_path: Path, commit: str, branch: str = "") -> Path:
    """CONTENT as huggingface_hub keeps a commit of kl_f8."""
    repository = tmp_path / "hub" / f"models--{KL.replace('/', '--')}"
    if branch:
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / branch).write_text(commit)
    return fill(repository / "snapshots" / commit)
