"""Remarks on a CT or a radiograph, made before it is trained on."""

from __future__ import annotations

from typing import Literal

Severity = Literal["note", "warning", "excluded"]
Remark = tuple[Severity, str]
"""A severity and a text for the report. A note tells what was done and leaves the pair as good as it was; a pair with a
warning is doubtful, and `--strict` leaves it out; an excluded pair is in no data set."""
