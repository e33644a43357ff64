"""Selection of the tables that can be shown, and their output."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType

from analysis.read.classifications import Classification, load_classifications
from analysis.read.groups import Choice, NothingToShowError, UnknownChoiceError, find_groups, no_choice
from analysis.read.runs import Group
from analysis.render import sheet
from analysis.tabulate import embolism, embolism_sheet, quality, quality_sheet
from analysis.tabulate.source import Source
from x2c.core.files import write_text

NEEDS = {1: ("full", "ablation"), 4: ("lidc_lora", "lidc")}
"""The variant that a table needs, and the sweep that runs it."""


@dataclass(frozen=True)
class Shown:
    """A table in every form."""

    stem: str
    of: Group | Classification
    view: Callable[[int], Sequence[RenderableType]]
    """Function that renders it for a terminal of a width."""
    texts: Mapping[str, Callable[[], str]]
    """By format, a function that returns its text."""
    readable: bool
    """Whether all its runs could be read."""


def show(
    choice: Choice, table: int | None = None, form: str | None = None, *, ci: bool = False, reference: str | None = None
) -> bool:
    """Print the requested tables and write their files; return whether all their runs could be read.

    Raises NothingToShowError if there is none, UnknownChoiceError for a scale or data set without runs.
    """
    found, reasons = collect(choice, table, ci, reference)
    if not found:
        raise NothingToShowError("\n".join(reasons))
    readable = all(shown.readable for shown in found)
    if form:
        for shown in found:
            print(shown.texts[form](), end="")
        return readable
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    paths: list[Path] = []
    # All in the first one's folder.
    out = choice.folder(found[0].of)
    for shown in found:
        for part in shown.view(console.width):
            console.print(part)
        for suffix, text in shown.texts.items():
            paths.append(out / f"{shown.stem}.{suffix}")
            write_text(paths[-1], text())
        console.print()
    for reason in reasons:
        print(reason)
    print("Wrote " + ", ".join(str(path) for path in paths))
    return readable


def collect(
    choice: Choice, table: int | None = None, ci: bool = False, reference: str | None = None
) -> tuple[list[Shown], list[str]]:
    """Return the tables that can be shown, and for others messages on what is missing."""
    wanted = (table,) if table else (1, 2, 3, 4)
    found: list[Shown] = []
    reasons: list[str] = []
    groups: list[Group] = []
    if set(wanted) & {1, 2, 4}:
        try:
            groups = find_groups(choice.runs, choice.scale, choice.data, choice.only, reference)
        except (NothingToShowError, UnknownChoiceError):
            if table or not classifications(choice):
                raise
    for number in wanted:
        if number == 3:
            some = classifications(choice)
            if some:
                found.append(_shown3(some[0]))
            elif table:
                reasons.append(unclassified(choice))
            continue
        group = group_for(number, groups)
        if group is None:
            if table:
                reasons.append(lacking(number, groups[0], choice.runs))
            continue
        found.append(_shown(group, number, groups, ci, reference))
    if 2 in wanted and groups:
        reasons += [_other(other, groups) for other in groups[1:]]
    return found, reasons


def unclassified(choice: Choice) -> str:
    """Return the message that Table 3 has no classification, with the command that makes one."""
    asked = [(name, getattr(choice, name)) for name in ("scale", "data")]
    asked += [("runs", choice.runs)] if choice.runs != Path("runs") else []
    options = [word for name, value in asked if value for word in (f"--{name}", str(value))]
    command = shlex.join(["python", "x2c/classify.py", *options])
    return f"Table 3: no classification in {choice.runs}; run: {command}"


def lacking(number: int, group: Group, runs_dir: Path) -> str:
    """Return the message that Table 1 or 4 has no run, with the command that makes one beside those of a group."""
    variant, sweep = NEEDS[number]
    command = Source(group, runs_dir).sweep(sweep)
    return f"Table {number}: no finished run of {variant} in {runs_dir}; run: {command}"


def group_for(number: int, groups: Sequence[Group]) -> Group | None:
    """Return the group of a table: the latest; for Tables 1 and 4 the latest with a finished run of their variant."""
    if number == 2:
        return groups[0] if groups else None
    variant = NEEDS[number][0]
    # Table 1 is on the patients of Table 2; Table 4 is on other ones.
    candidates = groups[:1] if number == 1 else groups
    return next((g for g in candidates if any(r.variant == variant and r.state == "done" for r in g.runs)), None)


def _shown(group: Group, number: int, groups: Sequence[Group], ci: bool, reference: str | None) -> Shown:
    variants = {run.variant for run in group.runs}
    if reference is not None and reference not in variants:
        raise UnknownChoiceError(f"--reference: {no_choice(reference, 'a variant that has runs', variants)}")
    elsewhere = [g for g in groups if g is not group and g.scale == group.scale]
    table = quality.collect(group, number, reference if number == 2 else None, elsewhere)
    return Shown(
        table.stem,
        group,
        lambda width: (quality_sheet.terminal(table, width, ci), quality_sheet.notes(table)),
        {
            "md": lambda: quality_sheet.markdown(table, ci),
            "tex": lambda: quality_sheet.latex(table, ci),
            "csv": lambda: quality_sheet.tidy_csv(table),
            "html": lambda: quality_sheet.html(table, ci),
        },
        not table.unreadable,
    )


def _shown3(of: Classification) -> Shown:
    table = embolism.collect(of)
    made = embolism_sheet.sheets_of(table)
    return Shown(
        "table3",
        of,
        lambda _: (
            sheet.terminal(embolism_sheet.terminal_sheet(table)),
            *([sheet.terminal(embolism_sheet.terminal_pairs(table))] if table.pairs else []),
            sheet.notes([note for part in made for note in part.notes]),
        ),
        {
            "md": lambda: sheet.markdown(made),
            "tex": lambda: sheet.latex(made),
            "csv": lambda: embolism_sheet.tidy_csv(table),
            "html": lambda: sheet.html(made),
        },
        of.state != "unreadable",
    )


def classifications(choice: Choice) -> list[Classification]:
    """Return classifications that match the flags: finished ones first, then the latest; unreadable ones last."""
    asked = set((choice.only or "").split(",")) - {""}
    some = [
        c
        for c in load_classifications(choice.runs)
        if choice.scale in (None, c.scale)
        and (
            choice.data is None
            or choice.data == c.dataset
            or c.cohort.startswith(choice.data)
            or c.state == "unreadable"
        )
        and (not asked or c.path.name in asked)
    ]
    return sorted(some, key=lambda c: (c.state == "unreadable", c.state != "done"))


def _other(other: Group, groups: Sequence[Group]) -> str:
    done = sum(run.state == "done" for run in other.runs)
    namesakes = [group for group in groups if (group.scale, group.dataset) == (other.scale, other.dataset)]
    data_flag = other.dataset if len(namesakes) == 1 else (other.cohort or other.dataset)[:12]
    return f"Another table: --scale {other.scale} --data {data_flag} ({done} of {len(other.runs)} runs done)"
