"""The description of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from analysis.read.derived_id import at, leaves
from analysis.read.files import UnreadableError, read_config, read_scores
from x2c.core.errors import UserError
from x2c.core.files import read_json
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory
from x2c.engine.model_file import MODEL_FILE, PARTS
from x2c.runs.disk import age_text, size_text, usage, wide_console

NOT_COMPARED = ("compute", "variant", "scale", "seed", "table2")


def show_run(folder: Path) -> int:
    """Print a run: its changes to its variant, its provenance, needs for sampling, scores and files."""
    try:
        config = read_config(folder)
    except (UnreadableError, OSError) as error:
        raise UserError(f"{folder}: expected a run; {error}; give another") from None
    status, provenance = RunDirectory(folder).status(), _json(folder / "provenance.json")
    sections = {
        folder.name: _state(status, folder),
        f"beside variant {config['variant']} at scale {config['scale']}": differences(config),
        "provenance": _provenance(provenance),
        "sampling": _sampling(folder),
        "scores over test patients": _scores(folder),
        "files": _files(folder),
    }
    console = wide_console()
    for title, lines in sections.items():
        table = Table(title=title, show_header=False, title_justify="left", box=None, padding=(0, 2, 0, 2))
        for name, value in lines:
            table.add_row(name, Text(str(value), overflow="fold"))
        console.print(table)
    return 0


def differences(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the fields of a run's config in which it differs from today's config of its variant and scale."""
    try:
        usual = resolve(config["variant"], config["scale"], config["seed"]).model_dump(mode="json", exclude_none=True)
    except UserError as error:
        return [("not known", str(error))]
    found = [
        (path, f"{at(config, path)} (the variant's: {at(usual, path)})")
        for path in sorted({path for tree in (config, usual) for path, _ in leaves(tree)})
        if path.partition(".")[0] not in NOT_COMPARED and not _same(at(config, path), at(usual, path))
    ]
    return found or [("no difference", "")]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (isinstance(one, list | tuple) and list(one) == list(other or ()))


def _state(status: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    yield "state", f"{status.get('state', 'not begun')} {status.get('reason') or ''}".strip()
    if isinstance(status.get("updated"), int | float):
        yield "last report", f"{age_text(status['updated'])} ago"
    yield "folder", str(folder)


def _provenance(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "commit", f"{provenance.get('commit') or 'not known'}{', dirty' if provenance.get('dirty') else ''}"
    yield (
        "x2c, Python, torch",
        ", ".join(
            str(value) for value in (provenance.get("x2c"), provenance.get("python"), at(provenance, "packages.torch"))
        ),
    )
    yield "device", str(provenance.get("device"))
    data = provenance.get("data") or {}
    yield "data", f"{data.get('name')}, fingerprint {data.get('fingerprint')}, cohort {data.get('cohort')}"
    for stage in provenance.get("stages") or []:
        yield "stage", f"{stage['name']} {stage['key']}"
    for stand_in in provenance.get("stand_ins") or []:
        yield "stand-in", f"{stand_in['part']}: {stand_in['name']} instead of {stand_in['instead_of']}"
    for option, weights in (provenance.get("weights") or {}).items():
        yield "weights", f"{option}: {weights['name']}, SHA-256 {str(weights['sha256'])[:12]}…"


def _sampling(folder: Path) -> Iterator[tuple[str, str]]:
    model = _json(folder / MODEL_FILE)
    if not model:
        yield "not whole", "it is not done, or of an older x2c: sampling or exporting it adds what it lacks"
        return
    for part in PARTS:
        about = model["parts"][part]
        if about["copy"]:
            yield part, f"{about['name']}, in {about['copy']}"
        else:
            asset = about["asset"] or {"name": about["name"], "source": "as in training", "licence": "unknown"}
            yield part, f"{asset['name']}, to be had from {asset['source']} (licence {asset['licence']})"
    volume = model["volume"]
    yield "volumes (z, y, x)", f"{volume['shape']}, {volume['spacing_mm']} mm, window {volume['window_hu']} HU"


def _scores(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        scores = read_scores(folder)
    except (UnreadableError, OSError):
        yield "none", ""
        return
    numbers = scores.drop(columns="label", errors="ignore").select_dtypes("number")
    for name in numbers:
        yield str(name), f"{numbers[name].mean():.4g} ± {numbers[name].std():.4g} (n = {numbers[name].count()})"


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        kind = " (a link)" if path.is_symlink() else ""
        size = usage([path]).held
        yield path.name + ("/" if path.is_dir() else ""), f"{size_text(size)}{kind}"
    together = usage([folder])
    yield "together", f"{size_text(together.held)}; deleting the run frees {size_text(together.freed)}"


def _json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (ValueError, OSError):
        return {}
    return values if isinstance(values, dict) else {}
