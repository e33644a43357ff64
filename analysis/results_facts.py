"""What the results page says in words: a headline for each group, where its numbers come from, and what made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import yaml

from analysis.checks import Check, number
from analysis.classifications import Classification
from analysis.pictures.source import METRIC_PARTS, Source
from analysis.runs import BASELINES, Group, Run, StandIn, evaluated, voxels
from analysis.table2 import Row, Table, paper_rows
from analysis.table2_notes import window_text
from analysis.verdicts import Judged
from x2c.core.script import PROJECT

_PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64", "i386", "i686")


def headline(
    group: Group,
    table: Table,
    row: Row | None,
    found: Sequence[Classification],
    checks: Sequence[Check],
    claims: Sequence[Judged],
) -> str:
    """Device, size, patients, seeds, how much of Table 2 is finished, and how the checks and claims came out."""
    runs = finished(table)
    variants = [run for run in runs if run.variant not in BASELINES] or runs
    sizes = Counter(voxels(run.config) for run in variants)
    size = " × ".join(map(str, sizes.most_common(1)[0][0]))
    numbers = sorted({len(run.scores) for run in runs if run.scores is not None})
    slot = evaluated(variants[0].config)
    trained = f" (trained on {slot['train']})" if "train" in slot else ""
    of = table.kind.number if table.kind else 2
    paper = {one.variant for one in paper_rows(of)}
    done = {one.variant for one in table.rows if one.cells and one.variant not in BASELINES}
    ours = f", and {_count(len(done - paper), 'row')} that it does not have" if done - paper else ""
    sentences = [
        f"Scale **{group.scale}** on {' and '.join(devices(runs))}: volumes of {size} voxels (D × H × W), "
        f"{' or '.join(map(str, numbers))} test patients{trained}, {_seeds(variants)}.",
        f"**{len(done & paper)} of the {len(paper)} rows** of the paper's Table {of} are finished{ours}.",
    ]
    if row:
        sentences.append(_of_row(row))
    verdicts = Counter(check.verdict for check in checks)
    sentences.append(
        f"Of these {_count(len(checks), 'check')} {verdicts['yes']} say yes, {verdicts['no']} no, and "
        f"{verdicts['cannot tell']} cannot tell"
        + (f"; of the paper's {len(claims)} claims {_by_verdict(claims)}." if claims else ".")
    )
    parts = sorted({s.part for some in (runs, found) for one in some for s in one.stand_ins})
    if parts:
        sentences.append(
            f"Small stand-ins take the place of pretrained networks ({', '.join(parts)}): no number here is comparable "
            "with the paper's."
        )
    return " ".join(sentences)


def provenance(group: Group, table: Table, found: Sequence[Classification]) -> str:
    """Code, data, networks, machine, seeds and run ids of the finished runs and classifications, as Markdown."""
    runs = finished(table)
    notes = [run.provenance or {} for run in runs] + [c.provenance for c in found]
    lines = [
        ("Code", _listed(_commit(note) for note in notes)),
        ("Formats", _listed(f"run {note.get('format', '?')}, metrics {note.get('metrics', '?')}" for note in notes)),
        (
            "Data",
            f"{group.dataset}, cohort `{group.cohort or 'unknown'}`; fingerprints " + _listed(_data(n) for n in notes),
        ),
        ("HU window", window_text(runs)),
        ("Stand-ins", "<br>".join(_stand_ins([*runs, *found])) or "none"),
        ("Pretrained networks", "<br>".join(_weights(notes)) or "none"),
        ("Device", _listed(device(note) for note in notes)),
        ("Software", _listed(_software(note) for note in notes)),
        ("Seeds", ", ".join(map(str, sorted({run.seed for run in runs})))),
    ]
    table_lines = ["| Of the runs above | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in lines)]
    ids = [f"- {run.variant}: `{run.id}`" for run in runs] + [f"- classification: `{c.path.name}`" for c in found]
    summary = f"<summary>{_count(len(ids), 'run id')}</summary>"
    return "\n".join([*table_lines, "", "<details>", summary, "", *ids, "", "</details>", ""])


def commands(group: Group, found: Sequence[Classification]) -> list[str]:
    """What makes the group's finished runs and classifications again."""
    source = Source(group)
    runs = [run for run in group.runs if run.state == "done" and run.variant not in BASELINES]
    seeds = sorted({run.seed for run in runs})
    with_seeds = f" seeds={','.join(map(str, seeds))}" if seeds not in ([], [0]) else ""
    lines: list[str] = []
    left = {run.id for run in runs}
    # What asks for more than a variant comes first: its runs are those of the variant as well.
    for name, cells in sorted(_sweeps().items(), key=lambda sweep: (-len(sweep[1][0]), -len(sweep[1]), sweep[0])):
        made = [{run.id for run in runs if _is_of(run, cell)} for cell in cells]
        covered = set[str]().union(*made)
        # A sweep of which a cell is missing did not make them, or not yet.
        if all(made) and covered & left:
            lines.append(source.sweep(name) + with_seeds)
            left -= covered
    for variant in dict.fromkeys(run.variant for run in runs if run.id in left):
        lines.append(source.script("train.py", variant))
    for c in found:
        lines.append(
            source.script("classify.py", c.variant) + (" --generated single" if c.generated == "single" else "")
        )
    return list(dict.fromkeys(lines))


def finished(table: Table) -> list[Run]:
    """The finished runs behind a table's rows."""
    return [run for row in table.rows if row.cells for run in row.runs if run.state == "done"]


def devices(runs: Sequence[Run]) -> list[str]:
    """The devices that made runs, the one of most runs first."""
    return [name for name, _ in Counter(device(run.provenance or {}) for run in runs).most_common()]


def device(note: Mapping[str, Any]) -> str:
    """A device of a provenance by the name of its kind."""
    name = str(note.get("device") or "a device that was not recorded")
    return f"CPU ({name})" if name.lower() in _PROCESSORS else name


def _of_row(row: Row) -> str:
    text = f"The checks below are about {row.label} (`{row.variant}`)"
    if psnr := row.cells.get("psnr"):
        text += f", whose PSNR is {psnr.mean:.2f} dB"
        if gain := row.cells.get("xray_gain"):
            text += f", {number(gain.mean)} dB over what it makes of another patient's X-ray"
    return text + "."


def _by_verdict(claims: Sequence[Judged]) -> str:
    verdicts = Counter(claim.verdict for claim in claims)
    return (
        f"{verdicts['supported']} are supported here, {verdicts['contradicted']} contradicted, "
        f"{verdicts['not enough data']} without enough data"
    )


def _seeds(runs: Sequence[Run]) -> str:
    seeds = sorted({run.seed for run in runs})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _commit(note: Mapping[str, Any]) -> str:
    if not note.get("commit"):
        return "not recorded"
    return f"commit `{str(note['commit'])[:12]}`" + (
        " with changes that were not committed" if note.get("dirty") else ""
    )


def _data(note: Mapping[str, Any]) -> str:
    return f"`{(note.get('data') or {}).get('fingerprint', 'unknown')}`"


def _software(note: Mapping[str, Any]) -> str:
    packages = note.get("packages") or {}
    names = [f"{name} {packages[name]}" for name in ("torch", "diffusers", "monai", "numpy") if name in packages]
    python = [f"Python {note['python']}"] if "python" in note else []
    return ", ".join([*python, *names]) or "not recorded"


def _listed(texts: Any) -> str:
    """Each text once, the most frequent first, with how often where there are several."""
    counts = Counter(texts).most_common()
    if len(counts) == 1:
        return str(counts[0][0])
    return "<br>".join(f"{text} (× {times})" for text, times in counts)


def _stand_ins(of: Sequence[Run | Classification]) -> list[str]:
    found: set[StandIn] = {stand_in for one in of for stand_in in one.stand_ins}
    ordered = sorted(found, key=lambda s: (s.part in METRIC_PARTS, s.part, s.name, s.instead_of))
    return [f"{s.part}: {s.name}" + (f" instead of {s.instead_of}" if s.instead_of else "") for s in ordered]


def _weights(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {
        (option, str(entry.get("name")), str(entry.get("sha256") or "unknown")[:12], str(entry.get("standing")))
        for note in notes
        for option, entry in (note.get("weights") or {}).items()
    }
    return [f"{option}: {name}, SHA-256 `{digest}` ({standing})" for option, name, digest, standing in sorted(found)]


def _sweeps() -> dict[str, list[dict[str, Any]]]:
    """The grids of sweeps/ by name: what sets each cell apart, whatever the seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((PROJECT / "sweeps").glob("*.yaml")):
        parameters = yaml.safe_load(path.read_text(encoding="utf-8")).get("parameters", {})
        choices = {name: _choices(entry) for name, entry in parameters.items() if name != "seed"}
        if all(choices.values()):
            found[path.stem] = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    return found


def _choices(entry: Mapping[str, Any]) -> list[Any]:
    return list(entry.get("values") or ([entry["value"]] if "value" in entry else []))


def _is_of(run: Run, cell: Mapping[str, Any]) -> bool:
    """Whether a run is a sweep's cell, as far as its configuration tells."""
    for name, value in cell.items():
        found: Any = run.config
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"
