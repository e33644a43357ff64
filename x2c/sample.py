"""Generate CT volumes from chest radiographs with a finished run.

    python x2c/sample.py --run full --xray image.png --out volume.nii.gz
    python x2c/sample.py --run runs/full-cpu-s0-… --xray FOLDER --out FOLDER --samples 8
    python x2c/sample.py --run RUN --xray image.dcm --out v.nii.gz --sampler=ddim --sampler.steps=50

For every radiograph (PNG, JPEG, TIFF, DICOM; frontal) it writes a volume in HU as NIfTI, a JSON file that says where it
comes from, and a picture. Each X-ray is looked at first, as x2c/prepare.py does: one that seems inverted, turned, blank or
no frontal chest, or whose header says so, is warned of. Generated volumes are research material. They are not for diagnosis.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from x2c.core.script import begin

begin(__name__, "sample.py")

from x2c.core.arguments import seed, whole_number
from x2c.core.cli import Parser
from x2c.core.errors import exit_on_user_error
from x2c.core.run_lookup import find_run
from x2c.core.stopping import exit_code, interruptible

EPILOG = """\
which run:
  --run takes a run's folder, wherever it lies; or, of a run in the folder --runs, its id, the beginning of one that no
  other id has, or the name of a variant, of which the newest finished run is taken. The folder is all that is read of a
  run: no data set, no cache. Pretrained networks that it names and does not hold are looked for as in training
  (`python -m x2c.runs show RUN` lists them). A run of an older x2c is completed from its data set and cache, once.

with --samples:
  NAME_1.nii.gz and so on, with NAME_mean.nii.gz and NAME_sd.nii.gz: voxel by voxel, in HU.

of a folder:
  File names of X-rays can identify patients, so no output bears one: xray_0001 is the first of the folder's
  files in sorted order (as LC_ALL=C ls lists them), and its JSON file holds the X-ray's SHA-256 (sha256sum FILE).
  The pictures show the X-rays as they are: a name that is burned into one stays visible.

doubtful X-rays:
  A warning goes to the error stream, with the number of the X-ray where --xray is a folder, and into the JSON file
  (xray_remarks). With --strict no volume is sampled as long as there is one, and all of them are named.

what can be changed of a run, as --a.b=value:
  sampler, sampler.steps, guidance.scale, guidance.given, evaluation.batch_size (volumes at once),
  compute.cache (for a run of an older x2c), compute.cpu, compute.threads; autoencoder.source and encoder.source, if the weights are the same

exit codes: 0 all was written, 2 something is wrong with the request: nothing was sampled
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, sample, and print what was written."""
    parser = Parser(prog="sample.py", description=__doc__, epilog=EPILOG)
    parser.add_argument("--run", required=True, metavar="RUN", help="a run that is done: its folder, id or variant")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are (default: runs)")
    parser.add_argument("--xray", type=Path, required=True, metavar="PATH", help="a radiograph, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="NAME.nii.gz, or a folder for a folder")
    parser.add_argument(
        "--samples", type=whole_number(1), default=1, metavar="N", help="volumes per X-ray (default: 1)"
    )
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="LoRA adapters of this denoiser, in peft's format")
    parser.add_argument("--seed", type=seed, metavar="N", help="seed of the noise (default: the run's)")
    parser.add_argument(
        "--label",
        choices=("unknown", "negative", "positive"),
        help="embolism label to sample with, for runs guided by label (default: the run's)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse doubtful X-rays instead of warning of them")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="print the operations that take longest, and write profile/trace.json beside the volumes",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options, overrides = parser.split(argv)
    from x2c.engine.sampling_paths import Request, check_paths, done_run

    options.run, profiles = find_run(options.run, options.runs), options.profile
    del options.runs, options.profile
    request = Request(**vars(options), overrides=tuple(overrides))
    # Errors that can be found at once are reported before the imports, which take many seconds.
    done_run(request.run)
    check_paths(request)
    from x2c.engine.profiling import profiled
    from x2c.engine.sampling import sample_xrays
    from x2c.engine.volume_files import print_made

    out = options.out if options.xray.is_dir() else options.out.parent
    try:
        with interruptible(), profiled(out / "profile") if profiles else nullcontext():
            made = sample_xrays(request)
    except KeyboardInterrupt as stop:
        print("interrupted; every file that was written is whole; --overwrite does all again", file=sys.stderr)
        return exit_code(stop)
    print_made(made, out)
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
