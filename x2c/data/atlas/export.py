"""Virtual patients as files, to try `x2c/prepare.py` on: python -m x2c.data.atlas.export DIR

Writes DIR/pairs.csv, a CT (NIfTI) and a chest X-ray (PNG) for each, as somebody might have exported them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from x2c.core.cli import Parser
from x2c.core.console import track
from x2c.core.errors import exit_on_user_error
from x2c.core.files import replacing
from x2c.data.atlas import make_patient
from x2c.data.atlas.template import prepare_template
from x2c.data.nifti import write_nifti

SHAPE = (128, 144, 144)
XRAY_PIXELS = 512
COLUMNS = ("patient", "ct", "xray", "label")


def export(folder: Path, patients: int, cache: Path) -> None:
    """Write virtual patients 0 to `patients` − 1 of cohort 0."""
    from PIL import Image

    template = prepare_template(cache)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str, int]] = []
    for number in track(range(patients), "making virtual patients", patients):
        name = f"patient_{number:03d}"
        patient = make_patient(template, f"atlas-0-{number:05d}", 0, SHAPE, XRAY_PIXELS)
        volume = np.rint(patient.volume.hu).astype(np.int16)
        write_nifti(folder / f"{name}_ct.nii.gz", volume, patient.volume.spacing_mm, "x2c atlas: a virtual patient")
        with replacing(folder / f"{name}_xray.png") as temporary:
            Image.fromarray(np.rint(patient.radiograph * 255).astype(np.uint8)).save(temporary, "PNG")
        rows.append((name, f"{name}_ct.nii.gz", f"{name}_xray.png", patient.label))
    with replacing(folder / "pairs.csv") as temporary, temporary.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    print(f"{patients} virtual patients in {folder}: {folder / 'pairs.csv'}")


def main() -> None:
    """Parse and export."""
    parser = Parser(prog="python -m x2c.data.atlas.export", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write them")
    parser.add_argument("--patients", type=int, default=6, metavar="N", help="how many (default: 6)")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="of the template")
    options = parser.parse_args(sys.argv[1:])
    export(options.folder, options.patients, options.cache)


if __name__ == "__main__":
    exit_on_user_error(main)
