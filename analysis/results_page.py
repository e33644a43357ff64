"""The results page: RESULTS.md and its pictures, from finished runs and nothing else."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis import results_facts, results_pictures, results_sheets, table2, table3
from analysis.checks import Check, corrected
from analysis.classifications import Classification
from analysis.cli import NothingToShowError, find_groups
from analysis.pictures.source import Source
from analysis.results_pictures import FIRST, Picture
from analysis.runs import Group
from analysis.sense import chosen, classification_of, measure
from analysis.show import CLASSIFY, NEEDS, classifications
from analysis.table2 import Row, Table
from analysis.table2_notes import NOT_FOR_DIAGNOSIS
from analysis.verdict_page import SMOKE
from analysis.verdicts import Judged, judge
from x2c.core.files import write_text

PAGE = "RESULTS.md"
_USUAL = ("phantom", "atlas")
"""The data sets that everyone has, in the page's order."""
_PATH = re.compile(r"(?<![\w<.)\]/])/[\w.@+-]+(?:/[\w.@+-]+)*/?")


@dataclass(frozen=True)
class Part:
    """What the page tells of one group of runs."""

    group: Group
    title: str
    prefix: str
    """Of its pictures' names."""
    table: Table
    row: Row | None
    """The one that the checks are about."""
    found: tuple[Classification, ...] = field(repr=False)
    """Finished ones of the group's patients, the latest first."""
    claims: tuple[Judged, ...] = field(repr=False)


def show(args: argparse.Namespace) -> None:
    """Write the page and its pictures. Raises NothingToShowError where no run is finished."""
    groups = groups_of(args)
    parts = [part_of(group, groups, classifications(args)) for group in groups]
    measured = [measure(part.group, part.found, part.row.variant if part.row else None) for part in parts]
    together = iter(corrected([check for checks in measured for check in checks]))
    checks = [[next(together) for _ in some] for some in measured]
    tests = sum(not math.isnan(check.p) for some in measured for check in some)
    sections: list[str] = []
    pictures: list[Picture] = []
    for part, some in zip(parts, checks, strict=True):
        drawn, missing = results_pictures.draw(Source(part.group, args.runs), part.prefix, part.found, args.out)
        pictures += drawn
        sections.append(section(part, some, tests, drawn, sorted(missing)))
        for name, why in missing.items():
            print(f"{part.title}: {name}: not drawn: {why}")
    text = "\n".join([head(args, parts), *sections, closing(args, parts)])
    write_text(args.out / PAGE, without_paths(text))
    results_pictures.remove_others(args.out, pictures)
    size = sum((args.out / picture.link).stat().st_size for picture in pictures) / 1e6
    print(
        f"Wrote {args.out / PAGE} and {len(pictures)} pictures ({size:.1f} MB) in {args.out / results_pictures.FOLDER}"
    )


def groups_of(args: argparse.Namespace) -> list[Group]:
    """The groups with finished runs at the scale: phantom first, then atlas, then others by name.

    Raises NothingToShowError where there is none, UnknownChoiceError for a scale or data set without runs.
    """
    found = find_groups(args.runs, args.scale, args.data, args.prefer)
    done = [group for group in found if any(run.state == "done" for run in group.runs)]
    if not done:
        raise NothingToShowError(f"no finished run in {args.runs}: there is nothing to show yet; see: make status")
    order = {name: place for place, name in enumerate(_USUAL)}
    return sorted(
        (group for group in done if group.scale == done[0].scale),
        key=lambda group: (order.get(group.dataset, len(order)), group.dataset, -len(group.runs), group.cohort or ""),
    )


def part_of(group: Group, groups: Sequence[Group], found: Sequence[Classification]) -> Part:
    """What there is to tell of a group among the groups of the page."""
    namesakes = sum(other.dataset == group.dataset for other in groups) > 1
    finished = {run.variant for run in group.runs if run.state == "done"}
    # Of a cohort that only the fine-tuned model was scored on Table 2 has no row.
    tuned = NEEDS[4][0] in finished and not finished & {row.variant for row in table2.paper_rows(2)}
    here = tuple(c for c in found if (c.scale, c.cohort, c.state) == (group.scale, group.cohort or "", "done"))
    table = table2.collect(group, 4 if tuned else 2)
    return Part(
        group=group,
        title=group.dataset.capitalize() + (f" ({group.cohort[:12]})" if namesakes and group.cohort else ""),
        prefix=results_pictures.prefix_of(group.dataset, group.cohort, namesakes),
        table=table,
        row=chosen(table),
        found=here,
        claims=() if tuned else tuple(judge(group, here)),
    )


def head(args: argparse.Namespace, parts: Sequence[Part]) -> str:
    """The page's first lines: what made it, and what is on it."""
    command = command_of(args, parts[0].group.scale)
    listed = [f"- [{part.title}](#{_anchor(part.title)})" for part in parts]
    if args.data is None:
        scale, shown = parts[0].group.scale, {part.group.dataset for part in parts}
        # Every data set can be had by everyone, so that one that is not here has a command.
        listed += [
            f"- {name.capitalize()}: no finished run at this scale; `make sweep name=losses{_options(scale, name)}`"
            for name in _USUAL
            if name not in shown
        ]
    return "\n".join(
        [
            f"<!-- Generated by `{command}` from finished runs. Do not edit: run it again. -->",
            "",
            f"# Results at scale {parts[0].group.scale}",
            "",
            f"`{command}` wrote this page from finished runs; no number was typed. {NOT_FOR_DIAGNOSIS}"
            + (f" {SMOKE}" if parts[0].group.scale == "smoke" else ""),
            "",
            *listed,
            "",
        ]
    )


def section(
    part: Part, checks: Sequence[Check], tests: int, pictures: Sequence[Picture], missing: Sequence[str]
) -> str:
    """A group's part of the page."""
    first = [picture for picture in pictures if picture.name == FIRST]
    group, table = part.group, part.table
    lines = [
        f"## {part.title}",
        "",
        results_facts.headline(group, table, part.row, part.found, checks, part.claims),
        "",
    ]
    lines += [line for picture in first for line in _pictured(picture)]
    lines += [f"### {table.title}", "", results_sheets.quality(table)]
    lines += _classifications(part)
    if not table.kind or table.kind.number == 2:
        lines += _other_tables(group)
    lines += ["### Do the results make sense?", "", results_sheets.checks(checks, part.row, group, tests)]
    if part.claims:
        lines += ["### The paper's claims", "", results_sheets.claims(part.claims, group, table)]
    lines += ["### Figures", ""]
    lines += [line for picture in pictures if picture.name != FIRST for line in _pictured(picture)]
    if missing:
        lines += [
            f"Not drawn, for want of runs: {', '.join(missing)}; `python analysis/figures.py` says what to run.",
            "",
        ]
    lines += ["### Provenance", "", results_facts.provenance(group, table, part.found)]
    return "\n".join(lines)


def closing(args: argparse.Namespace, parts: Sequence[Part]) -> str:
    """The commands that made what is on the page."""
    lines = [line for part in parts for line in results_facts.commands(part.group, part.found)]
    return "\n".join(
        [
            "## How it was made",
            "",
            "```",
            *lines,
            command_of(args, parts[0].group.scale),
            "```",
            "",
            "Options beside these are in each run's `config.yaml`; the hash in its id covers all that can change a number.",
            "",
        ]
    )


def command_of(args: argparse.Namespace, scale: str) -> str:
    """The command behind the page, without the machine's own folders, and with the scale that it found."""
    given = {"scale": scale, "data": args.data, "prefer": args.prefer}
    folders = {"runs": (args.runs, Path("runs")), "out": (args.out, Path())}
    told = [f" --{name} {value}" for name, value in given.items() if value is not None]
    told += [f" --{name} DIR" for name, (value, usual) in folders.items() if value != usual]
    return "python analysis/results.py" + "".join(told)


def without_paths(text: str) -> str:
    """The text with every absolute path replaced: a run's complaint, or a data set's folder, may name one."""
    return _PATH.sub("PATH", text)


def _classifications(part: Part) -> list[str]:
    first = classification_of(part.group, part.found, part.row.variant if part.row else None)
    if first is None:
        variant = part.row.variant if part.row else "full"
        command = f"{CLASSIFY} --variant {variant}{_options(part.group.scale, part.group.dataset, '--{} {}')}"
        return ["### Table 3", "", f"Nothing was classified on these patients; run: `{command}`.", ""]
    lines: list[str] = []
    for c in (first, *(other for other in part.found if other is not first)):
        title = f"Table 3, volumes generated by {c.variant}"
        try:
            table = table3.collect(c)
            title, text = table.title, results_sheets.classification(table)
        except ValueError as error:
            text = f"It cannot be shown: {' '.join(str(error).split())}.\n"
        lines += [f"### {title}", "", text] if c is first else [results_sheets.folded(title, text)]
    return lines


def _other_tables(group: Group) -> list[str]:
    """Tables 1 and 4, where their variant is finished."""
    lines: list[str] = []
    finished = {run.variant for run in group.runs if run.state == "done"}
    for number, (variant, _) in NEEDS.items():
        if variant in finished:
            table = table2.collect(group, number)
            lines += [f"### {table.title}", "", results_sheets.quality(table)]
    return lines


def _pictured(picture: Picture) -> list[str]:
    return [f"![{picture.shows}]({picture.link})", "", f"*{picture.caption}*", ""]


def _options(scale: str, data: str, form: str = "{}={}") -> str:
    told = [("scale", scale)] * (scale != "cpu") + [("data", data)] * (data != "phantom")
    return "".join(" " + form.format(*option) for option in told)


def _anchor(title: str) -> str:
    """As GitHub makes one of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
