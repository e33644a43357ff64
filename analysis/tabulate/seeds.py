"""The seeds over which a table's rows are compared, and the spread between seeds of rows that have more of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass

from analysis.read.runs import Run, voxels
from analysis.stats.paired import sign_flip, summary
from analysis.tabulate.measures import Column, per_seed

FEWEST = 6
"""Number of seeds from which an exact sign-flip test of their differences can come below .05."""


@dataclass(frozen=True)
class Across:
    """A row's metric minus the reference row's, seed by seed: one difference for each seed that both rows have."""

    variant: str
    key: str
    seeds: tuple[int, ...]
    mean: float
    sd: float
    """SD of the differences (k - 1)."""
    p: float
    """Exact sign-flip p; NaN if the seeds are too few for one below .05."""

    @property
    def k(self) -> int:
        """Number of seeds."""
        return len(self.seeds)


def shared_seeds(of_rows: Mapping[str, Set[int]], reference: str) -> frozenset[int]:
    """Return the seeds that all rows have; if there is none, those of the rows that have the most frequent seed.

    of_rows: the finished seeds by variant, rows without any left out. Among equally frequent seeds it is one of the
    reference row's, then the lowest.
    """
    if not of_rows:
        return frozenset()
    if common := set.intersection(*map(set, of_rows.values())):
        return frozenset(common)
    counts = Counter(seed for seeds in of_rows.values() for seed in seeds)
    usual = max(counts, key=lambda seed: (counts[seed], seed in of_rows.get(reference, ()), -seed))
    return frozenset(set.intersection(*(set(seeds) for seeds in of_rows.values() if usual in seeds)))


def across_seeds(
    rows: Mapping[str, Sequence[Run]],
    reference: str,
    columns: Sequence[Column],
    patients: Mapping[str, Set[str]],
    strange: Mapping[str, Container[str]],
) -> dict[tuple[str, str], Across]:
    """Return by variant and metric the differences over all seeds (two or more) shared with the reference row.

    rows: all finished runs of each row, of one sample size with the reference's or left out. patients: those whom a metric
    is averaged over. strange: by metric the ids of runs that another network measured.
    """
    base = {run.seed: run for run in rows.get(reference, ())}
    found: dict[tuple[str, str], Across] = {}
    for variant, runs in rows.items():
        ours = {run.seed: run for run in runs if run.seed in base}
        if variant == reference or len(ours) < 2 or voxels(runs[0].config) != voxels(next(iter(base.values())).config):
            continue
        for column in columns:
            pairs = {s: (per_seed(column, ours[s], patients[column.key]), per_seed(column, base[s], patients[column.key]))
                     for s in sorted(ours)}  # fmt: skip
            finite = {
                seed: a - b
                for seed, (a, b) in pairs.items()
                if math.isfinite(a) and math.isfinite(b)
                and ours[seed].id not in strange[column.key] and base[seed].id not in strange[column.key]
            }  # fmt: skip
            if len(finite) >= 2:
                values = list(finite.values())
                told = summary(values)
                p = sign_flip(values) if len(values) >= FEWEST else math.nan
                found[variant, column.key] = Across(variant, column.key, tuple(finite), told.mean, told.sd, p)
    return found
