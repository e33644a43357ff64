"""Text of the results page: a headline for each group, the provenance of its numbers, and the commands."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import yaml

from analysis.judge.checks import Check
from analysis.judge.verdicts import VERDICTS, Judged
from analysis.page.asides import Aside
from analysis.read.classifications import Classification
from analysis.read.runs import BASELINES, Group, Run, evaluated, in_order, part_name, voxels
from analysis.render import sheet
from analysis.render.numbers import number
from analysis.render.sheet import Entry, Sheet
from analysis.tabulate.quality import Table, paper_rows
from analysis.tabulate.quality_notes import window_text
from analysis.tabulate.rows import Row
from analysis.tabulate.source import Source
from x2c.core.script import PROJECT

_USES = {
    "samples": "for the check of several samples",
    "sampler_steps": "for the figure of sampling steps",
    "training_steps": "for the figure of training steps",
}
"""Sweeps whose runs the page uses without a row: rows show a variant's recipe with the most seeds."""
_ANOTHER = "with another recipe"
_PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64", "i386", "i686")


def headline(
    group: Group,
    table: Table,
    row: Row | None,
    found: Sequence[Classification],
    checks: Sequence[Check],
    claims: Sequence[Judged],
) -> str:
    """Summarize a group: finished rows, device, size, patients, seeds, and the results of checks and claims."""
    runs = finished(table)
    variants = [run for run in runs if run.variant not in BASELINES] or runs
    sizes = Counter(voxels(run.config) for run in variants)
    size = " × ".join(map(str, sizes.most_common(1)[0][0]))
    numbers = sorted({len(run.scores) for run in runs if run.scores is not None})
    slot = evaluated(variants[0].config)
    trained = f" (trained on {slot['train']})" if "train" in slot else ""
    paper = {one.variant for one in paper_rows(2)}
    done = {one.variant for one in table.rows if one.cells and one.variant not in BASELINES}
    ours = f", and {count(len(done - paper), 'row')} that it does not have" if done - paper else ""
    lines = [
        f"**{len(done & paper)} of the {len(paper)} rows** of the paper's Table 2 are finished{ours}. Scale "
        f"**{group.scale}** on {' and '.join(devices(runs))}: volumes of {size} voxels (D × H × W), "
        f"{' or '.join(map(str, numbers))} test patients{trained}, {_seeds(variants)}.",
        "",
    ]
    if row:
        lines.append(f"- {_of_row(row, table)}")
    lines.append(f"- {_of_checks([check for check in checks if not row or check.variant in ('', row.variant)])}")
    if claims:
        lines.append(f"- Of the paper's {len(claims)} claims {_by_verdict(claims)}.")
    if told := small_networks([*runs, *found]):
        lines.append(f"- {told}")
    return "\n".join(lines)


def small_networks(of: Sequence[Run | Classification]) -> str:
    """Name the parts for which stand-ins replace pretrained networks; empty if there are none."""
    parts = dict.fromkeys(stand_in.part for stand_in in in_order(s for one in of for s in one.stand_ins))
    if not parts:
        return ""
    return (
        f"Small stand-ins take the place of pretrained networks ({', '.join(map(part_name, parts))}): no number here is comparable with "
        "the paper's."
    )


def tuning(run: Run) -> str:
    """Describe on which patients a fine-tuned model was trained and scored."""
    slot, stages = evaluated(run.config), run.config["stages"]
    rank = stages[stages["order"][-1]].get("lora_rank")
    size = f" of rank {rank}" if rank else ""
    trained = f"{slot['train']} other patients" if "train" in slot else "other patients"
    agent = f" {'with' if slot['contrast'] else 'without'} contrast agent" if "contrast" in slot else ""
    scored = 0 if run.scores is None else len(run.scores)
    return (
        f"Adapters{size} alone were trained further, on {trained} of {run.dataset}{agent}, and scored on {scored} test "
        f"patients of the same kind, in the HU window {window_text([run])} (cohort `{run.cohort or 'unknown'}`)."
    )


def beside(group: Group, table: Table) -> dict[str, list[Run]]:
    """Return finished runs of the group without a row in the table, by the sweep that has them, others under ""."""
    shown = {run.id: run for row in table.rows for run in row.runs}
    usual = {run.variant: run for run in shown.values()}
    found: dict[str, list[Run]] = {}
    sweeps = _sweeps()
    for run in group.runs:
        if run.state == "done" and run.id not in shown:
            # A setting that the row's own runs share does not distinguish a run.
            of = (
                name
                for name in _USES
                for cell in sweeps.get(name, ())
                if _is_of(run, cell) and not (run.variant in usual and _is_of(usual[run.variant], cell))
            )
            found.setdefault(next(of, ""), []).append(run)
    return {name: found[name] for name in (*_USES, "") if name in found}


def beside_text(runs: Mapping[str, Sequence[Run]]) -> str:
    """Describe the use of runs without a row; empty if there are none."""
    told = [
        f"{count(len(some), 'run')} of {', '.join(sorted({run.variant for run in some}))} " + _USES.get(name, _ANOTHER)
        for name, some in runs.items()
    ]
    return f"With other settings, and not in these rows: {'; '.join(told)}." if told else ""


def provenance(
    tables: Sequence[Table], found: Sequence[Classification], others: Mapping[str, Sequence[Run]]
) -> tuple[str, Aside]:
    """Return code, data, networks, machine and seeds of the finished runs and classifications, and beside them their ids.

    `others` are finished runs that have no row in the tables, by the sweep that asks for them.
    """
    runs = [run for table in tables for run in finished(table)]
    single = [run for some in others.values() for run in some]
    notes = [run.provenance or {} for run in (*runs, *single)] + [c.provenance for c in found]
    data, windows = [], []
    for table in tables:
        scored = finished(table)
        name = f"Table {table.kind.number}: " if table.kind and len(tables) > 1 else ""
        prints = _listed(_data(run.provenance or {}) for run in scored)
        data.append(f"{name}{table.dataset}, cohort `{table.cohort or 'unknown'}`; fingerprints {prints}")
        windows.append(f"{name}{window_text(scored)}")
    lines = [
        ("Code", _listed(_commit(note) for note in notes)),
        ("Formats", _listed(f"run {note.get('format', '?')}, metrics {note.get('metrics', '?')}" for note in notes)),
        ("Data", "<br>".join(data)),
        ("HU window", "<br>".join(windows)),
        ("Pretrained networks", "<br>".join(_weights(notes)) or "none"),
        ("Device", _listed(device(note) for note in notes)),
        ("Processor", _listed(_processor(note) for note in notes)),
        ("Software", _listed(_software(note) for note in notes)),
        ("Seeds", ", ".join(map(str, sorted({run.seed for run in (*runs, *single)})))),
    ]
    table_lines = ["| Of the runs above | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in lines)]
    ids = [(run.variant, "", run.id) for run in runs]
    ids += [(run.variant, name or _ANOTHER, run.id) for name, some in others.items() for run in some]
    ids += [("classification", "", c.path.name) for c in found]
    heads = ("variant", "sweep, where it has no row", "run id")
    listed = Sheet("Run ids", tuple(map(Entry, heads)), tuple(("", tuple(map(Entry, row))) for row in ids), left=3)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("variant", "sweep", "run"), *ids])
    whole = Aside("runs", count(len(ids), "run id"), sheet.html([listed]), text.getvalue())
    return "\n".join([*table_lines, ""]), whole


def commands(group: Group, found: Sequence[Classification]) -> list[str]:
    """Return the commands that make the group's finished runs and classifications again."""
    source = Source(group)
    runs = [run for run in group.runs if run.state == "done" and run.variant not in BASELINES]
    lines: list[str] = []
    left = {run.id for run in runs}
    # The command that asks for more than a variant comes first: its runs include those of the variant.
    for name, cells in sorted(_sweeps().items(), key=lambda sweep: (-len(sweep[1][0]), -len(sweep[1]), sweep[0])):
        made = _made(runs, cells)
        # A sweep with a missing cell did not make the runs, or has not finished.
        seeds = set.intersection(*({run.seed for run in some} for some in made))
        covered = {run.id for some in made for run in some if run.seed in seeds}
        if covered & left:
            with_seeds = "" if seeds == {0} else f" seeds={','.join(map(str, sorted(seeds)))}"
            lines.append(source.sweep(name) + with_seeds)
            left -= covered
    for run in runs:
        if run.id in left:
            lines.append(source.script("train.py", run.variant) + (f" --seed {run.seed}" if run.seed else ""))
    for c in found:
        lines.append(
            source.script("classify.py", c.variant) + (" --generated single" if c.generated == "single" else "")
        )
    return list(dict.fromkeys(lines))


def finished(table: Table) -> list[Run]:
    """The finished runs behind a table's rows."""
    return [run for row in table.rows if row.cells for run in row.runs if run.state == "done"]


def devices(runs: Sequence[Run]) -> list[str]:
    """Return the devices that made runs, the one of most runs first."""
    return [name for name, _ in Counter(device(run.provenance or {}) for run in runs).most_common()]


def device(note: Mapping[str, Any]) -> str:
    """Return the device of a provenance by the name of its kind."""
    name = str(note.get("device") or "a device that was not recorded")
    return f"CPU ({name})" if name.lower() in _PROCESSORS else name


def _of_row(row: Row, table: Table) -> str:
    text = f"The checks are about {row.label} (`{row.variant}`)"
    psnr = row.cells.get("psnr")
    if not psnr:
        return text + "."
    text += f", whose PSNR is {psnr.mean:.2f} dB"
    if gain := row.cells.get("xray_gain"):
        text += f", {number(gain.mean, signed=True)} dB over its PSNR with another patient's X-ray"
    size = voxels(row.done[0].config)
    # Of each, the row at the same sample size; the usual networks come first.
    beside = {
        one.variant: one.cells["psnr"].mean
        for one in reversed(table.rows)
        if "psnr" in one.cells and voxels(one.done[0].config) == size
    }
    names = {
        "baseline_mean": "the mean training volume (nobody's anatomy)",
        "baseline_nearest": "the nearest training X-ray's volume",
        "baseline_reconstruction": "the autoencoder's ceiling",
    }
    yardsticks = [f"{name} {beside[variant]:.2f} dB" for variant, name in names.items() if variant in beside]
    return text + "." + (f" For comparison: {', '.join(yardsticks)}." if yardsticks else "")


def _of_checks(checks: Sequence[Check]) -> str:
    verdicts = Counter(check.verdict for check in checks)
    topics = Counter(check.topic for check in checks)
    yes = Counter(check.topic for check in checks if check.verdict == "yes")
    told = ", ".join(f"{topic} {yes[topic]} of {times}" for topic, times in topics.items())
    return (
        f"Does it make sense? Of {count(len(checks), 'check')} {verdicts['yes']} say yes ({told}), {verdicts['no']} no, "
        f"{verdicts['cannot tell']} cannot tell, and {verdicts['not measured']} were not measured."
    )


def _by_verdict(claims: Sequence[Judged]) -> str:
    verdicts = Counter(claim.verdict for claim in claims)
    words = {
        "supported": "are supported here",
        "contradicted": "contradicted",
        "not enough data": "without enough data",
        "not testable here (stand-in)": "not testable here, because a stand-in took the place of what they are about",
        "not comparable": "not comparable",
        "not run": "were not run",
    }
    always = ("supported", "contradicted")
    told = [f"{verdicts[v]} {words[v]}" for v in VERDICTS if v in always or verdicts[v]]
    return ", ".join(told)


def _seeds(runs: Sequence[Run]) -> str:
    """Describe the seeds of most variants, and those of others by the number of variants that have them."""
    of_variant: dict[str, set[int]] = {}
    for run in runs:
        of_variant.setdefault(run.variant, set()).add(run.seed)
    counts = Counter(tuple(sorted(seeds)) for seeds in of_variant.values()).most_common()
    told = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" for seeds, _ in counts]
    few = [f"of {count(times, 'row')} {text}" for text, (_, times) in zip(told[1:], counts[1:], strict=True)]
    return "; ".join([told[0], *few])


def _commit(note: Mapping[str, Any]) -> str:
    if not note.get("commit"):
        return "not recorded"
    return f"commit `{str(note['commit'])[:12]}`" + (
        " with changes that were not committed" if note.get("dirty") else ""
    )


def _data(note: Mapping[str, Any]) -> str:
    return f"`{(note.get('data') or {}).get('fingerprint', 'unknown')}`"


def _processor(note: Mapping[str, Any]) -> str:
    threads = note.get("threads")
    told = f", {count(threads, 'thread')}" if isinstance(threads, int) else ""
    return str(note.get("processor") or "not recorded") + told


def _software(note: Mapping[str, Any]) -> str:
    packages = note.get("packages") or {}
    names = [f"{name} {packages[name]}" for name in ("torch", "diffusers", "monai", "numpy") if name in packages]
    python = [f"Python {note['python']}"] if "python" in note else []
    ours = [f"x2c {note['x2c']}"] if "x2c" in note else []
    return ", ".join([*ours, *python, *names]) or "not recorded"


def _listed(texts: Any) -> str:
    """Return each text once, the most frequent first, with its count if there are several."""
    counts = Counter(texts).most_common()
    if len(counts) == 1:
        return str(counts[0][0])
    return "<br>".join(f"{text} (× {times})" for text, times in counts)


def _weights(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {
        (option, str(entry.get("name")), str(entry.get("sha256") or "unknown")[:12], str(entry.get("standing")))
        for note in notes
        for option, entry in (note.get("weights") or {}).items()
    }
    return [f"{option}: {name}, SHA-256 `{digest}` ({standing})" for option, name, digest, standing in sorted(found)]


def _sweeps() -> dict[str, list[dict[str, Any]]]:
    """Return the grids of sweeps/ by name: the settings of each cell, without the seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((PROJECT / "sweeps").glob("*.yaml")):
        parameters = yaml.safe_load(path.read_text(encoding="utf-8")).get("parameters", {})
        choices = {name: _choices(entry) for name, entry in parameters.items() if name != "seed"}
        if all(choices.values()):
            found[path.stem] = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    return found


def _choices(entry: Mapping[str, Any]) -> list[Any]:
    return list(entry.get("values") or ([entry["value"]] if "value" in entry else []))


def _made(runs: Sequence[Run], cells: Sequence[Mapping[str, Any]]) -> list[list[Run]]:
    """Return the runs of each cell: those of a recipe that, but for the cells' settings, has a run of every cell."""
    matched = [{run.id: _rest(run, cell) for run in runs if _is_of(run, cell)} for cell in cells]
    kept: list[list[Run]] = []
    for cell, rests in zip(cells, matched, strict=True):
        siblings = (m for other, m in zip(cells, matched, strict=True) if other.get("variant") == cell.get("variant"))
        whole = set.intersection(*(set(m.values()) for m in siblings))
        kept.append([run for run in runs if rests.get(run.id) in whole])
    return kept


def _rest(run: Run, cell: Mapping[str, Any]) -> str:
    """Return a run's recipe without a cell's settings."""
    config = json.loads(run.recipe)
    for name in cell:
        *parents, key = name.split(".")
        inner = config
        for parent in parents:
            inner = inner.get(parent, {})
        inner.pop(key, None)
    return json.dumps(config, sort_keys=True)


def _is_of(run: Run, cell: Mapping[str, Any]) -> bool:
    """Whether a run is a sweep's cell, as far as its configuration shows."""
    for name, value in cell.items():
        found: Any = run.config
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def count(number_of: int, noun: str) -> str:
    """Return a number with its noun, in singular or plural."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"
