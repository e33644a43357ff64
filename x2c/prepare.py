"""Make a prepared data set of patients' CTs and chest X-rays.

    python x2c/prepare.py --source folder --root /data/mine --out /data/mine_prepared
    python x2c/prepare.py --source rspect --root /data/rsna-str --out /data/rspect --drr-poses random
    python x2c/train.py --variant l1 --data /data/mine_prepared --pretraining /data/rspect

Each CT is read, judged, cropped to its lungs and resampled once to 256 × 256 × 128, which makes two volumes of 64
slices. Rerun an interrupted command to resume it; only what has changed is prepared again.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from x2c.core.script import begin

begin(__name__, "prepare.py")

from x2c.core.arguments import seed, whole_number
from x2c.core.cli import Parser
from x2c.core.errors import exit_on_user_error, unknown
from x2c.core.registry import SOURCES

EPILOG = """\
sources:
  folder   ROOT/pairs.csv, separated by commas, semicolons or tabs: patient, ct, xray and, where known, label (0, 1),
           ct_date, xray_date; paths are relative to ROOT. CT: NIfTI, NRRD, MetaImage, or the folder of a DICOM series.
           X-ray: PNG, JPEG, TIFF, DICOM, or a folder of several, of which the frontal one is taken.
           Dates: 2024-05-31, 31.05.2024, 05/31/2024, with or without a time and its UTC offset
  ctpa     CSV files in ROOT with columns CT_Accession_number, cxr_Accession_number and PE; files or folders so named,
           anywhere below ROOT: one volume or one DICOM series (a JSON or .raw beside it does not matter)
  rspect   the RSNA STR challenge: ROOT/train.csv and ROOT/train/STUDY/SERIES/*.dcm; no X-rays, projections instead;
           side, centrality and slices of emboli where train.csv tells them
  tcia     collections of the Cancer Imaging Archive: ROOT/PATIENT/…/*.dcm, the CT and the CR or DX of the nearest
           dates, the frontal one of several; ROOT/labels.csv (patient, label) where known
  lidc     LIDC-IDRI from there: the same, with no labels
  x2ct     X2CT-GAN's HDF5 set: ROOT/ID/ct_xray_data.h5, and train.txt and test.txt in ROOT, ROOT/data or beside ROOT
  ct_rate  CT-RATE: ROOT/dataset/{train,valid}[_fixed]/…, ROOT/metadata/*.csv where the files are not the fixed ones;
           DRR-RATE's pictures in ROOT/drr_rate or beside ROOT, otherwise projections. Its valid is test here

what is written:
  OUT/manifest.parquet, report.md, report.csv, contact_sheet.png, and the arrays under pairs/.
  No name, id, date or UID of a patient: pseudonyms are salted hashes. Their key, and a list of who is who, lie in
  ROOT (x2c_key.json, x2c_patients.csv), or in the folder given by --key: keep them as safe as the data.

exit codes: 0 every pair is in, 1 some were left out (see the report), 2 nothing was prepared
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options, prepare the data set, and print a report."""
    parser = Parser(prog="prepare.py", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("--source", required=True, metavar="NAME", help=f"layout of the data: {', '.join(SOURCES.names())}")
    add("--root", type=Path, required=True, metavar="DIR", help="folder of the data as downloaded or exported")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the prepared data set")
    add("--size", type=size, default="256x256x128", metavar="HxWxD", help="voxels of a whole CT (default: 256x256x128)")
    add("--margin-mm", type=millimetres, default=5.0, metavar="MM", help="around the lungs' box (default: 5)")
    add("--lungs", choices=("threshold", "lungmask"), default="threshold", help="what finds the lungs")
    add("--drr", choices=("torch", "diffdrr", "none"), default="torch", help="what projects the CTs (default: torch)")
    add(
        "--drr-poses",
        choices=("straight", "random"),
        default="straight",
        help="random: a CT's second half gets its own",
    )
    add(
        "--splits",
        type=numbers,
        default="803:50:45",
        metavar="A:B:C",
        help="train:val:test, by patient; test has two and val one at least (default: 803:50:45); x2ct and ct_rate "
        "prescribe train and test, and val is drawn from train",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of splits and folds (default: 0)")
    add("--strict", action="store_true", help="leave out what is doubtful, too")
    add("--key", type=Path, metavar="DIR", help="folder of the pseudonyms' key (default: --root)")
    add("--workers", type=whole_number(0), default=0, metavar="N", help="processes (default: one a core)")
    options = parser.parse_args(argv)
    from x2c.data.prepare.folders import check_folders

    if options.source not in SOURCES.names():
        raise unknown("--source", "source", options.source, SOURCES.names())
    check_folders(options.root, options.out, options.key or options.root)
    from x2c.data.prepare.recipe import Recipe
    from x2c.data.prepare.run import Request, prepare

    given = vars(options)
    recipe = Recipe(**{name: given.pop(name) for name in ("size", "margin_mm", "lungs", "drr", "drr_poses", "strict")})
    records = prepare(Request(**given, recipe=recipe))
    return int(any(record.status == "excluded" for record in records))


def size(text: str) -> tuple[int, int, int]:
    """Parse HxWxD as (D, H, W)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) >= 2 for part in parts):
        raise ArgumentTypeError(f"expected HxWxD, such as 256x256x128; got {text!r}")
    height, width, depth = map(int, parts)
    return depth, height, width


def numbers(text: str) -> tuple[int, int, int]:
    """Parse A:B:C as three whole numbers."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ArgumentTypeError(f"expected A:B:C, such as 803:50:45; got {text!r}")
    train, val, test = map(int, parts)
    return train, val, test


def millimetres(text: str) -> float:
    """Parse a length in mm, at least 0."""
    try:
        mm = float(text)
    except ValueError:
        mm = -1.0
    if not 0 <= mm < 1000:
        raise ArgumentTypeError(f"expected millimetres, 0 to 1000; got {text!r}")
    return mm


if __name__ == "__main__":
    exit_on_user_error(main)
