"""Names that other tools use for options and fields, and their names in x2c."""

from __future__ import annotations

_RATE = "learning rates are per stage: --stages.xray.learning_rate"
_STEPS = "training is counted in steps, per stage: --stages.xray.steps"
_SIZE = "the sample size is --resolution.size, divided by --resolution.reduction"
_OUT = "runs are written to --runs"
_PROCESSES = "of a sweep --compute.processes; of one run `accelerate launch --num_processes N x2c/train.py`"
_GUESSES = {
    "lr": _RATE,
    "learning_rate": _RATE,
    "steps": _STEPS,
    "max_steps": _STEPS,
    "train_steps": _STEPS,
    "num_steps": _STEPS,
    "epochs": _STEPS,
    "num_epochs": _STEPS,
    "batch": "--training.batch_size",
    "batch_size": "--training.batch_size",
    "weight_decay": "--training.weight_decay",
    "ema": "--training.ema.decay",
    "ema_decay": "--training.ema.decay",
    "fp16": "--training.mixed_precision=fp16",
    "bf16": "--training.mixed_precision=bf16",
    "amp": "--training.mixed_precision",
    "precision": "--training.mixed_precision",
    "mixed_precision": "--training.mixed_precision",
    "gpus": _PROCESSES,
    "num_gpus": _PROCESSES,
    "devices": _PROCESSES,
    "num_processes": _PROCESSES,
    "cpu": "--compute.cpu=true",
    "image_size": _SIZE,
    "size": _SIZE,
    "num_inference_steps": "--sampler.steps",
    "sampling_steps": "--sampler.steps",
    "guidance_scale": "--guidance.scale",
    "output": _OUT,
    "output_dir": _OUT,
}
"""Names used elsewhere, with underscores and without a section."""
_OPTIONS = {"seeds": "seed", "seed": "seeds"}
"""Options of some commands, and the option that others have instead."""
_SECTIONS = ("training", "stages", "compute")
"""Sections in which these names are guesses; other sections have fields of their own with such names."""


def meant(path: str) -> str:
    """Return a hint `did you mean …? ` for a dotted path that is not a field; empty without one."""
    *sections, last = path.split(".")
    if sections and sections[0] not in _SECTIONS:
        return ""
    guess = _GUESSES.get(last.lower().replace("-", "_"), "")
    if len(sections) == 2 and sections[0] == "stages":
        guess = guess.replace("stages.xray", f"stages.{sections[1]}")
    return f"did you mean {guess}? " if guess.startswith("--") else f"{guess}; " if guess else ""


def meant_option(option: str, options: list[str]) -> str:
    """Return such a hint for an option that a command does not have, among the `options` that it has."""
    name = option.removeprefix("--").partition("=")[0]
    other = f"--{_OPTIONS.get(name.lower(), '')}"
    return f"did you mean {other}? " if other in options else meant(name)
