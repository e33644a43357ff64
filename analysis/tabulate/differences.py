"""Differences of each row from the reference row, paired by patient, with tests and minimum detectable differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from analysis.read.runs import Run, voxels
from analysis.stats.paired import ALPHA, TESTS, compare, holm
from analysis.stats.power import detectable
from analysis.tabulate.measures import Column, paired, patient_means


def rule(reference: str) -> str:
    """Return the comparison of a table's rows in words. A locked plan records this text."""
    return (
        f"{TESTS}, over test patients, averaged over the seeds that all rows have, each row against {reference}; "
        f"Holm's correction over all rows and metrics; alpha {ALPHA:g}"
    )


@dataclass(frozen=True)
class Difference:
    """A row's metric minus the reference row's, over the cells' patients and seeds; seeds are averaged per patient."""

    variant: str
    key: str
    mean: float
    """Difference of the two cells."""
    sd: float
    n: int
    ci_low: float
    ci_high: float
    """Upper end of Student's interval, for this pair alone."""
    p_mean: float
    """p of Student's t, for this pair alone."""
    p_rank: float
    """p of Wilcoxon's signed rank, for this pair alone."""
    p: float
    """The larger of the two; 1 where they point in opposite directions."""
    p_holm: float = math.nan
    """`p` after Holm's correction over all differences of the table."""
    detectable: float = math.nan
    """Minimum detectable difference: found with a chance of 80 % by the rule of `significant`, given the differences of
    this table that were found. Infinite if so few patients can find none."""

    @property
    def significant(self) -> bool:
        """Whether both tests are significant after the correction."""
        return self.p_holm < ALPHA


def differences(
    rows: Mapping[str, Sequence[Run]], reference: str, columns: Sequence[Column], patients: Mapping[str, Set[str]]
) -> dict[tuple[str, str], Difference]:
    """Return differences by variant and metric. rows: the runs of each row's cells. patients: of a metric's cells.

    Rows of another sample size than the reference's are left out, since their truth differs. Metrics of sets and the
    X-ray gain have no patients to pair.
    """
    base = rows.get(reference)
    if not base:
        return {}
    found: list[Difference] = []
    for column in columns:
        if column.of_set or column.key == "xray_gain":
            continue
        theirs = patient_means(base, column.key)
        for variant, runs in rows.items():
            if variant == reference or not runs or voxels(runs[0].config) != voxels(base[0].config):
                continue
            ours = {p: mean for p, mean in patient_means(runs, column.key).items() if p in patients[column.key]}
            pairs = paired(ours, theirs)
            if len(pairs) >= 2:
                found.append(_difference(variant, column.key, [a for a, _ in pairs], [b for _, b in pairs]))
    corrected = [replace(d, p_holm=p) for d, p in zip(found, holm([d.p for d in found]), strict=True)]
    return {(d.variant, d.key): replace(d, detectable=_detectable(d, corrected)) for d in corrected}


def _detectable(of: Difference, family: Sequence[Difference]) -> float:
    """Holm's first step requires alpha over all comparisons; each difference found leaves one comparison less."""
    found = sum(other.significant for other in family if other is not of)
    return detectable(of.sd, of.n, ALPHA / (len(family) - found))


def _difference(variant: str, key: str, a: list[float], b: list[float]) -> Difference:
    tested = compare(a, b)
    return Difference(
        variant,
        key,
        tested.difference,
        tested.sd,
        tested.n,
        tested.ci_low,
        tested.ci_high,
        tested.p_mean,
        tested.p_rank,
        tested.p,
    )
