"""The parts of the results page: one for each group of runs, with its table, checks and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from analysis.judge.checks import Check, corrected
from analysis.judge.sanity import measure
from analysis.judge.verdicts import Judged, judge
from analysis.page import pictures
from analysis.page.finetuned import Tuned, base_group, is_tuned, tuned_of
from analysis.read.classifications import Classification
from analysis.read.groups import Choice, NothingToShowError, find_groups
from analysis.read.runs import BASELINES, Group
from analysis.tabulate.quality import Table
from analysis.tabulate.quality_notes import HasStandIns, stand_in_marks
from analysis.tabulate.rows import Row
from analysis.tabulate.show import classifications
from analysis.tabulate.source import Source

USUAL = ("phantom", "atlas")
"""The data sets that are available to everyone, in the page's order."""


@dataclass(frozen=True)
class Part:
    """The part of the page on one group of runs."""

    source: Source
    """The group of runs, with the available classifications."""
    namesakes: bool
    """Whether the page has other patients of the same data set, so that titles name the cohort."""
    claims: tuple[Judged, ...] = field(repr=False)
    tuned: tuple[Tuned, ...]
    """Models fine-tuned from the group's model."""
    checks: tuple[Check, ...] = field(default=(), repr=False)
    """The checks, with Holm's correction over those of the whole page."""

    @property
    def title(self) -> str:
        """Its title: the data set, with the cohort if there are namesakes."""
        name = self.group.dataset.capitalize()
        return f"{name} ({self.group.cohort[:12]})" if self.namesakes and self.group.cohort else name

    @property
    def prefix(self) -> str:
        """Prefix of the names of its files."""
        return pictures.prefix_of(self.group.dataset, self.group.cohort, self.namesakes)

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


def parts_of(choice: Choice) -> list[Part]:
    """The groups with finished variants at the scale: phantom first, then atlas, then others by name.

    A fine-tuned model belongs to the group that it was trained on first, whatever patients --data asks for.
    Raises NothingToShowError if there is none, UnknownChoiceError for a scale or data set without runs.
    """
    here = _finished(find_groups(choice.runs, choice.scale, choice.data, choice.only))
    if not here:
        raise NothingToShowError(
            f"no finished variant in {choice.runs}: there is nothing to show yet", "see: make status"
        )
    scale = here[0].scale
    here = [group for group in here if group.scale == scale]
    everywhere = here if choice.data is None else _finished(find_groups(choice.runs, scale, None, choice.only))
    order = {name: place for place, name in enumerate(USUAL)}
    here.sort(
        key=lambda group: (order.get(group.dataset, len(order)), group.dataset, -len(group.runs), group.cohort or "")
    )
    bases = [(other, base_group(other, here)) for other in everywhere if is_tuned(other)]
    finetuned = {(other.dataset, other.cohort) for other, base in bases if base is not None}
    here = [group for group in here if (group.dataset, group.cohort) not in finetuned]
    found = classifications(choice)
    return _checked(
        [_part(group, here, [other for other, base in bases if base is group], found, choice) for group in here]
    )


def tests_of(parts: Sequence[Part]) -> int:
    """Return the number of checks that are tests: Holm's correction runs over them."""
    return sum(not math.isnan(check.p) for part in parts for check in part.checks)


def letters_of(parts: Sequence[Part]) -> dict[str, str]:
    """Return the page's letter of every stand-in by its text: a number has the same letters wherever it is shown."""
    of: list[HasStandIns] = [run for part in parts for run in part.group.runs if run.state == "done"]
    of += [c for part in parts for c in part.found]
    of += [run for part in parts for one in part.tuned for run in one.group.runs if run.state == "done"]
    return {stand_in.text: letter for stand_in, letter in stand_in_marks(of).items()}


def _part(
    group: Group, groups: Sequence[Group], tuned: Sequence[Group], found: Sequence[Classification], choice: Choice
) -> Part:
    """Return the part of the page on a group, given all groups of the page."""
    namesakes = sum(other.dataset == group.dataset for other in groups) > 1
    alone = is_tuned(group)
    tuned = [group] if alone else tuned
    source = Source(group, choice.runs, found=() if alone else tuple(found))
    return Part(
        source=source,
        namesakes=namesakes,
        claims=() if alone else tuple(judge(source)),
        tuned=tuple(tuned_of(one, namesakes, len(tuned) > 1) for one in tuned),
    )


def _checked(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with their checks."""
    measured = [
        [] if part.alone else measure(part.group, part.found, part.row.variant if part.row else None) for part in parts
    ]
    together = iter(corrected([check for checks in measured for check in checks]))
    return [
        replace(part, checks=tuple(next(together) for _ in checks))
        for part, checks in zip(parts, measured, strict=True)
    ]


def _finished(groups: Sequence[Group]) -> list[Group]:
    """Return groups with a finished variant: a sweep first makes the baselines, for all patients that it will score."""
    return [group for group in groups if any(r.state == "done" and r.variant not in BASELINES for r in group.runs)]
