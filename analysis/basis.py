"""What a run was scored on. Runs scored on something else than their neighbours are refused, never averaged in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.measures import Column
from analysis.runs import Run, window_hu


@dataclass(frozen=True)
class Basis:
    """What all runs of a table have to share."""

    cohort: str | None
    window_hu: tuple[float, float]
    metrics: int | None
    """The version of the metrics' code."""
    patients: frozenset[tuple[str, str]]
    """Test patients with their labels."""

    @classmethod
    def of(cls, run: Run) -> Basis:
        """The basis of a finished run."""
        provenance = run.provenance or {}
        recorded = (provenance.get("data") or {}).get("window_hu")
        window = (float(recorded[0]), float(recorded[1])) if recorded else window_hu(run.config)
        scores = run.scores
        assert scores is not None
        labels = scores["label"] if "label" in scores.columns else [""] * len(scores)
        patients = frozenset((str(p), str(label)) for p, label in zip(scores["patient"], labels, strict=True))
        return cls(run.cohort, window, provenance.get("metrics"), patients)

    def unlike(self, usual: Basis) -> str:
        """What of it differs from the usual one, in words; empty where nothing does."""
        reasons: list[str] = []
        if self.cohort != usual.cohort:
            reasons.append(f"data {self.cohort or 'unknown'} where the others have {usual.cohort or 'unknown'}")
        if self.window_hu != usual.window_hu:
            reasons.append(f"HU window {_range(self.window_hu)} where the others have {_range(usual.window_hu)}")
        if self.metrics != usual.metrics:
            reasons.append(f"metrics of version {self.metrics} where the others have {usual.metrics}")
        if self.patients != usual.patients:
            shared = len(self.patients & usual.patients)
            reasons.append(
                f"{len(self.patients)} test patients of whom {shared} are among the others' {len(usual.patients)}"
            )
        return "; ".join(reasons)


def refusals(done: Sequence[Run], first: Iterable[Run] = ()) -> dict[str, str]:
    """Run ids with the reason why each is refused: its basis is not that of most of the runs.

    Among equally common bases that of the runs in `first` counts as the usual one.
    """
    bases = {run.id: Basis.of(run) for run in done}
    preferred = [bases[run.id] for run in first if run.id in bases]
    counts = Counter(bases.values())
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda basis: (counts[basis], basis in preferred))
    return {run_id: reason for run_id, basis in bases.items() if (reason := basis.unlike(usual))}


def strangers(column: Column, done: Sequence[Run]) -> dict[str, str]:
    """Run ids with the reason why their cells of one column are refused: another network measured them."""
    if not column.part:
        return {}
    networks = {run.id: network for run in done if (network := _network(column.part, run)) is not None}
    counts = Counter(networks.values())
    if len(counts) < 2:
        return {}
    usual = counts.most_common(1)[0][0]
    return {
        run_id: f"{column.name} measured with {network[0]} where the others have {usual[0]}"
        for run_id, network in networks.items()
        if network != usual
    }


def _network(part: str, run: Run) -> tuple[str, str] | None:
    """The network behind a metric: its name, and what tells its weights apart."""
    stand_ins = [s.name for s in run.stand_ins if s.part == part]
    entry: dict[str, Any] = (run.set_scores or {}).get("frechet" if part == "features" else "frechet_2d") or {}
    if not entry and not stand_ins and run.set_scores is None:
        return None
    name = stand_ins[0] if stand_ins else str(entry.get("extractor", "the real network"))
    return name, str(entry.get("weights", ""))


def _range(window: tuple[float, float]) -> str:
    return f"{window[0]:g}..{window[1]:g}".replace("-", "−")
