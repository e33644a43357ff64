"""Context managers for Accelerate's `Accelerator` and for the configured number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration

from x2c.core.config import Config
from x2c.engine import tracking


@contextmanager
def accelerated(config: Config, **options: object) -> Iterator[Accelerator]:
    """Yield an accelerator with the config's precision and device; `options` are passed on to `Accelerator`."""
    use_threads(config)
    accelerator = Accelerator(
        cpu=config.compute.cpu,
        mixed_precision=config.training.mixed_precision,
        gradient_accumulation_steps=config.training.accumulation,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        **options,
    )
    try:
        yield accelerator
    finally:
        try:
            tracking.end(accelerator)
            accelerator.end_training()
        finally:
            # Accelerate keeps its state for the process; a worker's next cell may want another precision.
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()


def use_threads(config: Config) -> None:
    """Use the config's number of threads, on which the last bits of results depend; 0 leaves the choice to torch."""
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
