"""Trackers, through Accelerate. W&B works offline without account or question unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from numpy.typing import NDArray

from x2c.core import stopping
from x2c.core.agent import LOCAL_PATH
from x2c.core.config import Config
from x2c.core.console import say
from x2c.core.errors import UserError, unknown
from x2c.core.run import RunDirectory

PICTURE_OPTIONS: dict[str, dict[str, Any]] = {"wandb": {}, "tensorboard": {"dataformats": "NHWC"}}
"""The trackers that accept pictures as [N, h, w, 3] arrays, with the argument that says so."""


def check(trackers: tuple[str, ...]) -> None:
    """Refuse a tracker that Accelerate does not know or whose package is not installed."""
    for name in trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise unknown("compute.tracker", "tracker", name, LOGGER_TYPE_TO_CLASS)
        if name not in {str(tracker) for tracker in get_available_trackers()}:
            raise UserError(
                f"compute.tracker: the package behind {name!r} is not installed; pip install it or leave it out"
            )


def start(accelerator: Accelerator, config: Config, run: RunDirectory) -> None:
    """Open the run in every tracker under its run id; reopened when a run resumes."""
    if "WANDB_SWEEP_ID" not in os.environ:  # which W&B's own agent sets, and which needs the server
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    values = config.model_dump(mode="json", exclude_none=True, exclude={"compute"})
    wandb = {
        "id": run.path.name,
        "name": run.path.name,
        "resume": "allow",
        "dir": str(run.path),
        "tags": [config.scale, config.dataset.name],
    }
    accelerator.init_trackers(config.compute.project, _flat(values), init_kwargs={"wandb": wandb})


def end(accelerator: Accelerator) -> None:
    """End the trackers that were started; an interrupt may have come before some did.

    All logged numbers are in metrics.jsonl on disk by now: a tracker that fails to end is reported and fails no run.
    """
    trackers, accelerator.trackers = accelerator.trackers, []
    for tracker in filter(_started, trackers):
        try:
            tracker.finish()
        except Exception as error:
            if not stopping.asked():
                say(f"tracker {tracker.name}: could not be ended: {error}")


def _started(tracker: GeneralTracker) -> bool:
    """Return whether a tracker has its library's run or writer, which exists once it is started."""
    try:
        return tracker.tracker is not None
    except AttributeError:
        return False


def log_results(accelerator: Accelerator, scores: pd.DataFrame, picture: NDArray[np.uint8] | None, step: int) -> None:
    """Send the mean scores to all trackers, and a grey picture [h, w], if given, to those that accept pictures.

    The scores are on disk by now: a tracker that fails is reported and does not fail the run.
    """
    means = {str(name): float(value) for name, value in scores.drop(columns=["patient", "label"]).mean().items()}
    for tracker in accelerator.trackers:
        try:
            tracker.log(means, step=step)
            if picture is not None and tracker.name in PICTURE_OPTIONS:
                images = picture[None, ..., None].repeat(3, axis=-1)
                tracker.log_images({"samples": images}, step=step, **PICTURE_OPTIONS[tracker.name])
        except Exception as error:
            say(f"tracker {tracker.name}: could not take the scores: {error}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten `{"a": {"b": 1}}` to `{"a.b": 1}`; a list, which no tracker accepts, becomes text.

    Paths of this machine become LOCAL_PATH: names of folders may identify patients and hospitals.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            known = value if isinstance(value, int | float | str | bool) else str(value)
            flat[prefix + key] = LOCAL_PATH if isinstance(known, str) and os.path.isabs(known) else known
    return flat
