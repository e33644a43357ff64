"""The folder that tables and pictures are written to, unless a command is given another by `--out`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from x2c.core.files import digest

FOLDER = Path("reports")
NAMES = "reports/SWEEP-SCALE-DATA"
"""How help texts write a sweep's folder."""


def report_folder(shown: str, scale: str, data: str, cohort: str = "", changed: Sequence[str] = ()) -> Path:
    """`reports/<shown>-<scale>-<data>`, such as `reports/losses-cpu-phantom`: no report overwrites one of other runs.

    `cohort`, the fingerprint of the patients, tells data sets of one name apart, and `changed`, the options by which a
    sweep differs from its file, sweeps of one name.
    """
    parts = [shown, scale, data or "unknown", cohort[:6], digest(list(changed), 6) if changed else ""]
    return FOLDER / "-".join(filter(None, parts))
