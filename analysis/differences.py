"""Each row against the reference row, patient by patient: how much, how sure, and what could have been seen at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.measures import Column, of_same_seeds, paired, patient_means
from analysis.runs import Run, voxels
from analysis.stats.paired import bootstrap, compare, holm
from analysis.stats.power import detectable

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """A row's metric minus the reference row's, over the patients and seeds of both; seeds are averaged within a patient."""

    variant: str
    key: str
    mean: float
    sd: float
    n: int
    ci_low: float
    ci_high: float
    """Of the paired bootstrap."""
    p: float
    """Wilcoxon's, for this pair alone."""
    p_bootstrap: float
    detectable: float
    """The smallest difference that this n finds with a chance of 80 %."""
    p_holm: float = math.nan
    p_bootstrap_holm: float = math.nan
    """Corrected over all differences of the table."""

    @property
    def significant(self) -> bool:
        """Whether both tests stand after the correction."""
        return max(self.p_holm, self.p_bootstrap_holm) < ALPHA


def differences(
    rows: Mapping[str, Sequence[Run]], reference: str, columns: Sequence[Column]
) -> dict[tuple[str, str], Difference]:
    """By variant and metric. `rows` are the runs behind each row, those that may be compared with one another.

    Rows of another sample size than the reference's are left out: their truth is another one. Metrics of sets and the
    X-ray gain have no patients to pair.
    """
    base = rows.get(reference)
    if not base:
        return {}
    found: list[Difference] = []
    for column in columns:
        if column.of_set or column.key == "xray_gain":
            continue
        for variant, runs in rows.items():
            if variant == reference or not runs or voxels(runs[0].config) != voxels(base[0].config):
                continue
            ours, theirs = (patient_means(some, column.key) for some in of_same_seeds(runs, base))
            pairs = paired(ours, theirs)
            if len(pairs) >= 2:
                found.append(_difference(variant, column.key, [a for a, _ in pairs], [b for _, b in pairs]))
    corrected = zip(found, holm([d.p for d in found]), holm([d.p_bootstrap for d in found]), strict=True)
    return {(d.variant, d.key): replace(d, p_holm=p, p_bootstrap_holm=q) for d, p, q in corrected}


def _difference(variant: str, key: str, a: list[float], b: list[float]) -> Difference:
    tested, resampled = compare(a, b), bootstrap(a, b)
    return Difference(
        variant,
        key,
        tested.difference,
        tested.sd,
        tested.n,
        resampled.ci_low,
        resampled.ci_high,
        tested.p,
        resampled.p,
        detectable(tested.sd, tested.n),
    )
