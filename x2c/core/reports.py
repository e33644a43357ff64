"""The default folder of tables and pictures, which `--out` replaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from x2c.core.files import digest

FOLDER = Path("reports")
NAMES = "reports/SWEEP-SCALE-DATA"
"""The pattern of a sweep's folder in help texts."""


def report_folder(shown: str, scale: str, data: str, cohort: str = "", changed: Sequence[str] = ()) -> Path:
    """Return `reports/<shown>-<scale>-<data>`, such as `reports/losses-cpu-phantom`, unique for a sweep on a data set.

    `cohort`, the fingerprint of the patients, tells data sets of one name apart, and `changed`, the options by which a
    sweep differs from its file, tells sweeps of one name apart.
    """
    parts = [shown, scale, data or "unknown", cohort[:6], digest(list(changed), 6) if changed else ""]
    return FOLDER / "-".join(filter(None, parts))
