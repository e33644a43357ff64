"""The fine-tuned model, trained further on other patients: its place on the results page, and its title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.page import pictures
from analysis.page.pictures import TUNED
from analysis.read.runs import Group, Run, evaluated
from analysis.tabulate import quality
from analysis.tabulate.quality import Table
from analysis.tabulate.show import NEEDS


@dataclass(frozen=True)
class Tuned:
    """Runs of the model that was fine-tuned to other patients, and scored on them."""

    group: Group
    table: Table
    title: str
    prefix: str
    """Prefix of its picture's name."""

    @property
    def link(self) -> str:
        """Path of its picture, relative to the page."""
        return pictures.link_of(self.prefix, TUNED)


def tuned_of(group: Group, namesakes: bool, several: bool) -> Tuned:
    """Return the group's fine-tuned model; its title names the patients if `namesakes` or `several` is true."""
    name = f": {group.cohort[:12]}" if several and group.cohort else ""
    # The paper's other patients are those of LIDC; on these no stand-in needs to be mentioned.
    place = "" if group.dataset == "lidc" else " (in the place of LIDC)"
    return Tuned(
        group=group,
        table=quality.collect(group, 4),
        title=f"Table 4. Fine-tuned to other patients by adapters{place}{name}",
        prefix=pictures.prefix_of(group.dataset, group.cohort, namesakes or several),
    )


def is_tuned(group: Group) -> bool:
    """Whether only the fine-tuned model was scored on the group's patients: Table 2 has no row of them."""
    finished = {run.variant for run in group.runs if run.state == "done"}
    return NEEDS[4][0] in finished and not finished & {row.variant for row in quality.paper_rows(2)}


def tuned_run(group: Group) -> Run:
    """Return the first finished run."""
    return next(run for run in group.runs if (run.variant, run.state) == (NEEDS[4][0], "done"))


def base_group(tuned: Group, groups: Sequence[Group]) -> Group | None:
    """Return the group that the model was first trained on: the same data options, else the same data set."""
    slot = tuned_run(tuned).config.get("dataset") or {}
    near = [group for group in groups if group.dataset == slot.get("name") and not is_tuned(group)]
    same = [group for group in near if any(evaluated(other.config) == slot for other in group.runs)]
    return next(iter(same or near), None)
