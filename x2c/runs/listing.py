"""The table of all runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from analysis.read.groups import no_choice
from analysis.read.runs import Run, load_runs
from x2c.core.errors import UserError
from x2c.engine.model_file import MODEL_FILE
from x2c.runs.disk import age_text, size_text, usage, wide_console


def list_runs(
    runs: Path, variant: str | None, scale: str | None, data: str | None, state: str | None, *, as_json: bool
) -> int:
    """Print the runs that match; return the exit code, 1 if there is none."""
    rows = run_rows(runs, variant, scale, data, state)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print(rows, runs)
    return 0 if rows else 1


def run_rows(
    runs: Path, variant: str | None = None, scale: str | None = None, data: str | None = None, state: str | None = None
) -> list[dict[str, Any]]:
    """What is known of each run that matches, sorted by id. Raises UserError for no folder, and for names without a run."""
    return [_row(run) for run in matching_runs(runs, variant, scale, data, state)]


def matching_runs(
    runs: Path, variant: str | None = None, scale: str | None = None, data: str | None = None, state: str | None = None
) -> list[Run]:
    """The runs that match, sorted by id. Raises UserError for no folder, and for names without a run."""
    if not runs.is_dir():
        raise UserError(f"--runs: no folder {runs}; expected a folder of runs; give one, or train a run first")
    found = load_runs(runs)
    for name, wanted in (("variant", variant), ("scale", scale), ("data", data), ("state", state)):
        told = {"data": "dataset"}.get(name, name)
        known = {getattr(run, told) for run in found} | {run.cohort for run in found if name == "data" and run.cohort}
        found = [
            run for run in found if wanted in (None, getattr(run, told)) or (name == "data" and _of_cohort(run, wanted))
        ]
        if known and not found and name != "state":
            raise UserError(f"--{name}: {no_choice(str(wanted), f'a {name} that has runs', known)}")
    return found


def _of_cohort(run: Run, wanted: str | None) -> bool:
    return bool(wanted and run.cohort and run.cohort.startswith(wanted))


def _row(run: Run) -> dict[str, Any]:
    status = _steps(run)
    psnr = run.scores["psnr"] if run.scores is not None and "psnr" in run.scores else None
    return {
        "id": run.id,
        "variant": run.variant,
        "scale": run.scale,
        "data": run.dataset,
        "cohort": run.cohort,
        "seed": run.seed,
        "state": run.state,
        "reason": run.reason,
        "phase": run.phase,
        "step": status[0],
        "steps": status[1],
        "psnr_mean": None if psnr is None else float(psnr.mean()),
        "psnr_sd": None if psnr is None else float(psnr.std()),
        "patients": None if psnr is None else len(psnr),
        "bytes": usage([run.path]).held,
        "updated": datetime.fromtimestamp(run.updated, UTC).isoformat(timespec="seconds"),
        "whole": (run.path / MODEL_FILE).is_file(),
        "age": run.updated,
    }


def _steps(run: Run) -> tuple[int | None, int | None]:
    """Training steps made and planned; both None if unknown, as for baselines."""
    stages = run.config.get("stages") or {}
    if run.variant.startswith("baseline_") or not stages:
        return None, None
    steps = sum(int(stages[name]["steps"]) for name in stages["order"])
    if run.state == "done":
        return steps, steps
    # Phases after training count their own steps.
    trains = run.phase.startswith("train")
    return (round((run.progress or 0.0) * steps) if trains else None), steps


def _print(rows: list[dict[str, Any]], runs: Path) -> None:
    total = usage([runs / row["id"] for row in rows])
    table = Table(title=f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} in {runs}, {size_text(total.held)}")
    for name in ("run", "variant", "scale", "data", "seed", "state", "steps", "PSNR, dB", "size", "age"):
        table.add_column(name, justify="right" if name in ("seed", "steps", "PSNR, dB", "size", "age") else "left")
    for row in rows:
        cohort = f" ({row['cohort'][:6]})" if row["cohort"] else ""
        table.add_row(
            # Ids are copied from here: they are never cut or wrapped.
            Text(row["id"], no_wrap=True),
            row["variant"],
            row["scale"],
            f"{row['data'] or '?'}{cohort}",
            str(row["seed"]),
            Text(row["state"] + (f": {row['reason']}" if row["reason"] and row["state"] != "done" else "")),
            "–" if row["steps"] is None else f"{'?' if row['step'] is None else row['step']}/{row['steps']}",
            "–" if row["psnr_mean"] is None else f"{row['psnr_mean']:.2f} ± {row['psnr_sd']:.2f}",
            size_text(row["bytes"]),
            age_text(row["age"]),
        )
    wide_console().print(table)
