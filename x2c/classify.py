"""Classify pulmonary embolism on true volumes, X-rays and generated volumes: the numbers of the paper's Table 3.

    python x2c/classify.py --variant full
    python x2c/classify.py --variant l1_lpips --data atlas --generated single
    python x2c/classify.py --variant full --classification.folds=5 --classification.volumes.steps=400

Six stratified folds: of each, one fold is tested, the next sets the threshold, the others are trained on. A patient's
generated volume is made by a generator that never saw the patient (cross_fitted), unless --generated single asks for
one generator for all, as in the paper. Rerun a killed command to resume it. Every prediction is kept, in
runs/classifications/; the table is made from them, here and by `python analysis/tables.py --table 3`.
"""

from __future__ import annotations

from collections.abc import Sequence

from x2c.core.script import begin

begin(__name__, "classify.py")

from x2c.core.arguments import seed
from x2c.core.cli import Parser, add_config_options, overrides_from
from x2c.core.errors import exit_on_user_error
from x2c.core.reports import FOLDER
from x2c.core.resolve import resolve

EPILOG = """\
what can be changed:
  any field of the generator's configuration as --a.b=value (see train.py), and of the classifiers'
  (experiments/classification/) as --classification.a.b=value; X-rays are classified by a ResNet-50 that starts from
  RadImageNet's weights where there is a copy (--classification.xrays.source=FILE, or X2C_WEIGHTS)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, classify, and print the table."""
    parser = Parser(prog="classify.py", description=__doc__, epilog=EPILOG)
    parser.add_argument("--variant", default="full", metavar="NAME", help="whose generators (default: full)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of everything (default: 0)")
    parser.add_argument(
        "--generated",
        choices=("cross_fitted", "single"),
        default="cross_fitted",
        help="generators that never saw the patient, or one that saw most (default: cross_fitted)",
    )
    add_config_options(parser, tracker=False)
    options, overrides = parser.split(argv)
    asked = overrides_from(options, overrides)
    # Wrong names are reported before the imports, which take many seconds.
    from x2c.engine.classification.settings import PREFIX, resolve_settings

    resolve_settings(options.scale, [text.removeprefix(PREFIX) for text in asked if text.startswith(PREFIX)])
    resolve(options.variant, options.scale, options.seed, [text for text in asked if not text.startswith(PREFIX)])
    from x2c.engine.classification.run import Request, classify

    request = Request(options.variant, options.scale, options.seed, tuple(asked), options.generated)
    directory = classify(request)
    from analysis import tables

    name = directory.path.name
    out = FOLDER / f"classify-{name}"
    return tables.main(["--table", "3", "--runs", str(directory.path.parents[1]), "--only", name, "--out", str(out)])


if __name__ == "__main__":
    exit_on_user_error(main)
