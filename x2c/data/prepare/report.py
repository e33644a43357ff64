"""The outcome of every pair: files for the record, a table for the terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from x2c.core.files import write_text
from x2c.data.cohort import SPLITS
from x2c.data.prepare.record import Record, Status
from x2c.data.prepare.splits import FEWEST

STATES: tuple[Status, ...] = ("ok", "warning", "excluded")
LINES_SHOWN = 20


def write_report(out: Path, records: Sequence[Record]) -> None:
    """Write report.csv, a line per pair, and report.md, which counts and lists what is not ok."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("where", "study", "patient", "status", "reasons"))
    for record in records:
        writer.writerow((record.where, record.study, record.patient, record.status, "; ".join(record.reasons)))
    write_text(out / "report.csv", text.getvalue())
    counted = Counter(record.status for record in records)
    lines = ["# Preparation report", "", "| status | pairs |", "|---|---|"]
    lines += [f"| {state} | {counted[state]} |" for state in STATES]
    lines += ["", "| where | examination | status | reasons |", "|---|---|---|---|"]
    lines += [
        f"| {record.where} | {record.study} | {record.status} | {'; '.join(record.reasons)} |"
        for record in records
        if record.status != "ok"
    ]
    write_text(out / "report.md", "\n".join(lines) + "\n")


def print_report(records: Sequence[Record], manifest: pd.DataFrame | None, title: str) -> None:
    """Print a line for each pair that is not ok, and the summary."""
    console = Console(soft_wrap=True)
    told = [record for record in records if record.status != "ok"]
    for record in told[:LINES_SHOWN]:
        console.print(Text(f"{record.where}: {record.status}: {'; '.join(record.reasons)}"))
    if len(told) > LINES_SHOWN:
        console.print(f"… and {len(told) - LINES_SHOWN} more in report.md")
    if manifest is not None:
        console.print(_summary(records, manifest, title))
        for remark in _remarks(manifest):
            console.print(Text(remark))


def _summary(records: Sequence[Record], manifest: pd.DataFrame, title: str) -> Table:
    counted = Counter(record.status for record in records)
    states = ", ".join(f"{counted[state]} {state}" for state in STATES)
    table = Table(title=title, caption=f"{len(records)} pairs listed: {states}")
    for heading in ("", "patients", "volumes", "embolism", "none", "unknown"):
        table.add_column(heading, justify="left" if not heading else "right")
    for split in (*SPLITS, "all"):
        rows = manifest if split == "all" else manifest[manifest["split"] == split]
        patients = rows.groupby("patient")["label"].max()
        labels = [str(int((patients == label).sum())) for label in (1, 0, 2)]
        table.add_row(split, str(len(patients)), str(len(rows)), *labels, end_section=split == SPLITS[-1])
    return table


def _remarks(manifest: pd.DataFrame) -> list[str]:
    """Return warnings about problems that would otherwise first appear in training."""
    patients = manifest.groupby("patient").agg({"split": "first", "label": "max"})
    counts = patients["split"].value_counts()
    remarks = []
    if len(patients) < FEWEST:
        remarks.append(
            f"too few patients to train on: a model needs {FEWEST} or more, of which three validate and test"
        )
    elif counts.get(SPLITS[0], 0) == 0:
        remarks.append("nobody is left to train on: give train a larger share in --splits")
    labels = set(patients["label"])
    if labels == {2}:
        remarks.append("nobody's label is known: variants that need labels cannot use this data set")
    elif labels != {0, 1}:
        remarks.append(
            "labels are not both 0 and 1, or not all known: variants that need labels cannot use this data set"
        )
    return remarks
