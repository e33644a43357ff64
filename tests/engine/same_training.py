"""The losses of a run, and two runs that are the same but for rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file


def losses(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def assert_same_training(one: Path, other: Path) -> None:
    """The same losses at first; then, and in the weights, the same to a hundredth.

    Adam makes a whole step of a gradient that is mere rounding: what begins the same to the last digits drifts apart. What
    the discriminator says does so from its third step, by half of it and more.
    """
    judged = 0
    for step, (a, b) in enumerate(zip(losses(one), losses(other), strict=True)):
        assert a.keys() == b.keys() and a.pop("stage") == b.pop("stage")
        if "loss/adv" in a:
            judged += 1
            for name in ("loss/adv", "loss/discriminator"):
                mine, theirs = a.pop(name), b.pop(name)
                assert judged > 2 or mine == pytest.approx(theirs, rel=1e-2)
        assert a == pytest.approx(b, rel=3e-4 if step < 3 else 1e-2)
    others = load_file(other / "denoiser.safetensors")
    for name, value in load_file(one / "denoiser.safetensors").items():
        if value.dim() > 1:
            assert (value - others[name]).norm() < 0.01 * value.norm(), name
