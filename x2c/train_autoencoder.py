"""Train a variant's VQ-GAN, or find it in the cache, and print how well it reconstructs.

    python x2c/train_autoencoder.py --variant vqgan_3d --scale cpu
    python x2c/train_autoencoder.py --variant vqgan_3d --scale gpu --out weights/vqgan
    python x2c/train_autoencoder.py --variant vqgan_3d --scale paper --autoencoder.source=lidc.pt --out weights/lidc

--out saves it as a folder that --autoencoder=vqgan_3d --autoencoder.source=FOLDER loads, whatever the data set.
Any field of the configuration can be given as --a.b=value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from x2c.core.script import begin

begin(__name__, "train_autoencoder.py")

from x2c.core.cli import Parser, choices_text
from x2c.core.config import Config
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.resolve import resolve, scales


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, resolve, train or load, save, and print the table."""
    parser = Parser(prog="train_autoencoder.py", description=__doc__, epilog=choices_text())
    parser.add_argument("--variant", default="", metavar="NAME", help="a file of experiments/")
    parser.add_argument("--scale", default="cpu", metavar="NAME", help=f"{', '.join(scales())} (default: cpu)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder to save it in")
    options, overrides = parser.split(argv)
    config = resolve(options.variant, options.scale, 0, overrides)
    if options.out is not None and options.out.exists():
        raise UserError(f"--out: expected a new folder; {options.out} exists; name another")
    from x2c.engine.parts import threads_of
    from x2c.models.vqgan.report import report

    with threads_of(config):
        report(*open_vqgan(config), options.out)


def open_vqgan(config: Config) -> tuple[Any, dict[str, Any]]:
    """Return the loaded VQ-GAN of a config, as a run would load it, and volumes in [-1, 1] of train and val."""
    from x2c.data.reading import VolumeRows
    from x2c.engine.experiment import best_device
    from x2c.engine.parts import Parts
    from x2c.models.autoencoders.vqgan import VQGANAutoencoder

    parts = Parts(config, best_device(config))
    if not isinstance(parts.autoencoder, VQGANAutoencoder):
        raise UserError(f"autoencoder: expected a VQ-GAN; got {config.autoencoder.name!r}; set --autoencoder=vqgan_3d")
    parts.load_autoencoder()
    data = parts.data("dataset")
    volumes = {split: VolumeRows(data.cohort, data.cohort.rows(split), data.window_hu) for split in ("train", "val")}
    return parts.autoencoder, volumes


if __name__ == "__main__":
    exit_on_user_error(main)
