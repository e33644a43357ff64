"""The results page: RESULTS.md and its pictures, from finished runs and nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from analysis.judge.checks import Check, corrected
from analysis.judge.sanity import measure
from analysis.judge.verdicts import Judged, judge
from analysis.judge.verdicts_sheet import SMOKE
from analysis.page import facts, readme, sheets
from analysis.page import pictures as results_pictures
from analysis.page.asides import SUFFIXES, Aside, Beside, remove_others
from analysis.page.finetuned import Tuned, home_of, is_tuned, tuned_of, tuned_run
from analysis.page.pictures import FIRST, Picture
from analysis.read.classifications import Classification
from analysis.read.groups import Choice, NothingToShowError, find_groups
from analysis.read.runs import BASELINES, Group
from analysis.render.footnotes import NOT_FOR_DIAGNOSIS
from analysis.tabulate import embolism, quality
from analysis.tabulate.quality import Table
from analysis.tabulate.rows import Row
from analysis.tabulate.show import NEEDS, classifications
from analysis.tabulate.source import Source
from x2c.core.files import write_text

PAGE = "RESULTS.md"
_MADE = "How it was made"
_USUAL = ("phantom", "atlas")
"""The data sets that are available to everyone, in the page's order."""


class Put(Protocol):
    """Puts a table beside the page; returns the lines of the page in its place."""

    def __call__(self, made: tuple[str, Aside], prefix: str = ...) -> list[str]:
        """Return the text, and the line that leads to the files."""


@dataclass(frozen=True)
class Part:
    """The part of the page on one group of runs."""

    source: Source
    """The group of runs, with the available classifications."""
    title: str
    prefix: str
    """Prefix of its pictures' names."""
    claims: tuple[Judged, ...] = field(repr=False)
    tuned: tuple[Tuned, ...]
    """Models fine-tuned from the group's model."""

    @property
    def group(self) -> Group:
        """The runs."""
        return self.source.group

    @property
    def table(self) -> Table:
        """Table 2 of the group."""
        return self.source.table

    @property
    def row(self) -> Row | None:
        """The row that is checked."""
        return self.source.checked

    @property
    def found(self) -> tuple[Classification, ...]:
        """The classifications that are shown."""
        return self.source.classifications

    @property
    def alone(self) -> bool:
        """Whether the part has only a fine-tuned model whose base group has no run."""
        return any(one.group is self.group for one in self.tuned)


def show(choice: Choice) -> bool:
    """Write the page and its pictures; return whether all could be read. Raises NothingToShowError if no run is done."""
    parts, out = parts_of(choice), choice.out or Path()
    measured = [
        [] if part.alone else measure(part.group, part.found, part.row.variant if part.row else None) for part in parts
    ]
    together = iter(corrected([check for checks in measured for check in checks]))
    checks = [[next(together) for _ in some] for some in measured]
    tests = sum(not math.isnan(check.p) for some in measured for check in some)
    sections: list[str] = []
    pictures: list[Picture] = []
    asides: list[Beside] = []
    for part, some in zip(parts, checks, strict=True):
        drawn, missing = _drawn(part, choice.runs, out)
        pictures += drawn
        sections.append(section(part, some, tests, drawn, missing, asides))
        for name, why in missing.items():
            print(f"{part.title}: {name}: not drawn: {why}")
    text = "\n".join([head(choice, parts), *sections, closing(choice, parts)])
    write_text(out / PAGE, sheets.without_paths(text))
    best = next((picture for picture in pictures if picture.name == FIRST), None)
    if best is not None:
        readme.refresh(out / "README.md", [part.table for part in parts if not part.alone], best, PAGE)
    for beside in asides:
        beside.write(out)
    remove_others(out, [*(p.link for p in pictures), *(b.link(suffix) for b in asides for suffix in SUFFIXES)])
    size = sum((out / picture.link).stat().st_size for picture in pictures) / 1e6
    print(f"Wrote {out / PAGE} and {len(pictures)} pictures ({size:.1f} MB) in {out / results_pictures.FOLDER}")
    return not any(part.group.unreadable for part in parts) and all(
        c.state != "unreadable" for c in classifications(choice)
    )


def parts_of(choice: Choice) -> list[Part]:
    """The groups with finished variants at the scale: phantom first, then atlas, then others by name.

    A fine-tuned model belongs to the group that it was trained on first, whatever patients --data asks for.
    Raises NothingToShowError if there is none, UnknownChoiceError for a scale or data set without runs.
    """
    here = _finished(find_groups(choice.runs, choice.scale, choice.data, choice.only))
    if not here:
        raise NothingToShowError(
            f"no finished variant in {choice.runs}: there is nothing to show yet; see: make status"
        )
    scale = here[0].scale
    here = [group for group in here if group.scale == scale]
    everywhere = here if choice.data is None else _finished(find_groups(choice.runs, scale, None, choice.only))
    order = {name: place for place, name in enumerate(_USUAL)}
    here.sort(
        key=lambda group: (order.get(group.dataset, len(order)), group.dataset, -len(group.runs), group.cohort or "")
    )
    homes = [(other, home_of(other, here)) for other in everywhere if is_tuned(other)]
    guests = {(other.dataset, other.cohort) for other, home in homes if home is not None}
    here = [group for group in here if (group.dataset, group.cohort) not in guests]
    found = classifications(choice)
    return [_part(group, here, [other for other, home in homes if home is group], found, choice.runs) for group in here]


def _part(
    group: Group, groups: Sequence[Group], tuned: Sequence[Group], found: Sequence[Classification], runs_dir: Path
) -> Part:
    """Return the part of the page on a group, given all groups of the page."""
    namesakes = sum(other.dataset == group.dataset for other in groups) > 1
    alone = is_tuned(group)
    tuned = [group] if alone else tuned
    source = Source(group, runs_dir, found=() if alone else tuple(found))
    return Part(
        source=source,
        title=group.dataset.capitalize() + (f" ({group.cohort[:12]})" if namesakes and group.cohort else ""),
        prefix=results_pictures.prefix_of(group.dataset, group.cohort, namesakes),
        claims=() if alone else tuple(judge(source)),
        tuned=tuple(tuned_of(one, namesakes, len(tuned) > 1) for one in tuned),
    )


def _finished(groups: Sequence[Group]) -> list[Group]:
    """Return groups with a finished variant: a sweep first makes the baselines, for all patients that it will score."""
    return [group for group in groups if any(r.state == "done" and r.variant not in BASELINES for r in group.runs)]


def _drawn(part: Part, runs_dir: Path, out: Path) -> tuple[list[Picture], dict[str, str]]:
    """Draw the pictures of a part; return them, and for others the reason why the runs do not allow them."""
    drawn: list[Picture] = []
    missing: dict[str, str] = {}
    # A fine-tuned model's picture shows its own patients.
    wanted = [] if part.alone else [(part.source, part.prefix, False if part.tuned else None)]
    of_tuned = [(Source(one.group, runs_dir, found=()), one.prefix, True) for one in part.tuned]
    for source, prefix, tuned in [*wanted, *of_tuned]:
        some, why = results_pictures.draw(source, prefix, out, tuned=tuned)
        drawn += some
        missing |= why
    return drawn, missing


def head(choice: Choice, parts: Sequence[Part]) -> str:
    """Return the page's first lines: the command that made it, and its contents."""
    scale = parts[0].group.scale
    command = command_of(choice, scale)
    listed = [f"- [{part.title}](#{_anchor(part.title)})" for part in parts]
    if choice.data is None:
        shown = {part.group.dataset for part in parts}
        # Every data set is available to everyone, so a missing one has a command.
        listed += [
            f"- {name.capitalize()}: no finished run at this scale; `{_reproduce(scale, [name])}`"
            for name in _USUAL
            if name not in shown
        ]
    return "\n".join(
        [
            f"<!-- Generated by `{command}` from finished runs. Do not edit: run it again. -->",
            "",
            f"# Results at scale {scale}",
            "",
            f"Written from finished runs; no number was typed. [{_MADE}](#{_anchor(_MADE)}) has the commands. "
            "A whole table, beside the page, has all notes that say how its numbers are to be read. "
            + NOT_FOR_DIAGNOSIS
            + (f" {SMOKE}" if scale == "smoke" else ""),
            "",
            *listed,
            "",
        ]
    )


def section(
    part: Part,
    checks: Sequence[Check],
    tests: int,
    pictures: Sequence[Picture],
    missing: Mapping[str, str],
    asides: list[Beside],
) -> str:
    """Return a group's part of the page, the main results first; what lies beside it is added to `asides`."""

    def put(made: tuple[str, Aside], prefix: str = part.prefix) -> list[str]:
        asides.append(Beside(made[1], prefix))
        return [made[0], asides[-1].line()]

    group, table = part.group, part.table
    lines = [f"## {part.title}", ""]
    beside = {} if part.alone else facts.beside(group, table)
    if not part.alone:
        lines += [facts.headline(group, table, part.row, part.found, checks, part.claims), ""]
        lines += [line for picture in pictures if picture.name == FIRST for line in _pictured(picture)]
        lines += [f"### {table.title}", "", *put(sheets.quality(table, facts.beside_text(beside)))]
        lines += _first_table(group, put)
        lines += ["### Do the results make sense?", "", *put(sheets.checks(checks, part.row, table, tests))]
        lines += _classifications(part, put)
        lines += ["### The paper's claims", "", *put(sheets.claims(part.claims, group, table))]
    lines += _fourth_table(part, pictures, put)
    of_tuned = {one.link for one in part.tuned}
    others = [picture for picture in pictures if picture.name != FIRST and picture.link not in of_tuned]
    if others or missing:
        lines += ["### Figures", ""]
        lines += [line for picture in others for line in _pictured(picture)]
        # The reason is followed by a command, for the person running this, not for the reader.
        lines += [f"- Not drawn: {name}: {why.split('; ')[0]}." for name, why in sorted(missing.items())]
        lines += [""] if missing else []
    tables = [*([] if part.alone else [table]), *(one.table for one in part.tuned)]
    lines += ["### Provenance", "", *put(facts.provenance(tables, part.found, beside))]
    text = "\n".join(lines)
    # If a data set has one cohort, titles do not name it; the notes do.
    return text if part.title != group.dataset.capitalize() else text.replace(f" ({(group.cohort or '')[:12]})", "")


def closing(choice: Choice, parts: Sequence[Part]) -> str:
    """Return the commands that made the page."""
    scale = parts[0].group.scale
    data = list(dict.fromkeys(Source(part.group).data for part in parts))
    lines = [line for part in parts for line in facts.commands(part.group, part.found)]
    lines += [line for part in parts for one in part.tuned for line in facts.commands(one.group, ())]
    return "\n".join(
        [
            f"## {_MADE}",
            "",
            "Everything, page and pictures included; rerun the same command to resume:",
            "",
            "```",
            _reproduce(scale, data),
            "```",
            "",
            "Or one by one:",
            "",
            "```",
            *dict.fromkeys(lines),
            command_of(choice, scale),
            "```",
            "",
            "Options beside these are in each run's `config.yaml`; the hash in its id covers all that can change a number.",
            "",
        ]
    )


def command_of(choice: Choice, scale: str) -> str:
    """Return the command behind the page with its scale. It names no folders, which differ between machines."""
    given = {"scale": scale, "data": choice.data, "only": choice.only}
    return "python analysis/results.py" + "".join(f" --{k} {value}" for k, value in given.items() if value is not None)


def _classifications(part: Part, put: Put) -> list[str]:
    first = part.source.classification
    broken = [c for c in part.source.found or () if (c.scale, c.state) == (part.group.scale, "unreadable")]
    told = [f"- Unreadable: classification of {c.variant} ({c.path.name}): {c.reason}." for c in broken]
    if first is None:
        command = Source(part.group).script("classify.py", part.row.variant if part.row else "full")
        return ["### Table 3", "", f"Nothing was classified on these patients; run: `{command}`.", *told, ""]
    lines: list[str] = [*told, ""] if told else []
    for c in (first, *(other for other in part.found if other is not first)):
        table = embolism.collect(c)
        text, whole = sheets.classification(table, "table3" if c is first else f"table3_{c.path.name}")
        if c is first:
            lines += [f"### {table.title}", "", *put((text, whole))]
        else:
            lines += put(("", replace(whole, title=table.title)))[1:]
    return lines


def _first_table(group: Group, put: Put) -> list[str]:
    """Return the line that leads to Table 1, which is a row of Table 2 and its baselines."""
    if not any((run.variant, run.state) == (NEEDS[1][0], "done") for run in group.runs):
        return []
    table = quality.collect(group, 1)
    summary = f"{table.title}: `{NEEDS[1][0]}` of Table 2, against the nearest training X-ray"
    text, whole = sheets.quality(table)
    return put((text, replace(whole, title=summary)))[1:]


def _fourth_table(part: Part, pictures: Sequence[Picture], put: Put) -> list[str]:
    """Return Table 4 of the model fine-tuned to other patients, with its picture; else of these patients."""
    lines: list[str] = []
    for one in part.tuned:
        lines += [f"### {one.title}", "", facts.tuning(tuned_run(one.group)), ""]
        lines += [line for picture in pictures if picture.link == one.link for line in _pictured(picture)]
        lines += put(sheets.quality(one.table), one.prefix)
    finished = {run.variant for run in part.group.runs if run.state == "done"}
    if not part.alone and NEEDS[4][0] in finished:
        table = quality.collect(part.group, 4)
        lines += [f"### {table.title}", "", *put(sheets.quality(table))]
    return lines


def _pictured(picture: Picture) -> list[str]:
    return [f"![{picture.shows}]({picture.link})", "", f"*{picture.caption}*", ""]


def _reproduce(scale: str, data: Sequence[str]) -> str:
    told = [("scale", scale)] * (scale != "cpu") + [("data", ",".join(data))] * (set(data) != set(_USUAL))
    return "make reproduce" + "".join(f" {name}={value}" for name, value in told)


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
