"""Comparability of runs: a run scored on other data than its neighbours is refused, never averaged in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from analysis.read.runs import Run, voxels, window_hu
from analysis.tabulate.measures import Column

MOST_LACKING = 0.2
"""Share of the patients that a row may lack in a column; the other rows are then shown without them. A row that lacks
more is refused there, so that one broken row does not take the patients of all others away."""


@dataclass(frozen=True)
class Basis:
    """The data, window, metrics and patients that all runs of a table must share."""

    cohort: str | None
    window_hu: tuple[float, float]
    metrics: int | None
    """Version of the metrics' code."""
    patients: frozenset[tuple[str, str]]
    """Test patients with their labels."""

    @classmethod
    def of(cls, run: Run) -> Basis:
        """Return the basis of a finished run."""
        provenance = run.provenance or {}
        recorded = (provenance.get("data") or {}).get("window_hu")
        window = (float(recorded[0]), float(recorded[1])) if recorded else window_hu(run.config)
        scores = run.scores
        assert scores is not None
        labels = scores["label"] if "label" in scores.columns else [""] * len(scores)
        patients = frozenset((str(p), _label(label)) for p, label in zip(scores["patient"], labels, strict=True))
        return cls(run.cohort, window, provenance.get("metrics"), patients)

    def unlike(self, usual: Basis) -> str:
        """Describe the differences from the usual basis; empty if there are none."""
        reasons: list[str] = []
        if self.cohort != usual.cohort:
            reasons.append(f"data {self.cohort or 'unknown'} where the others have {usual.cohort or 'unknown'}")
        if self.window_hu != usual.window_hu:
            reasons.append(f"HU window {_range(self.window_hu)} where the others have {_range(usual.window_hu)}")
        if self.metrics != usual.metrics:
            reasons.append(
                f"metrics of version {_version(self.metrics)} where the others have {_version(usual.metrics)}"
            )
        if self.patients != usual.patients:
            reasons.append(_other_patients(dict(self.patients), dict(usual.patients)))
        return "; ".join(reasons)


def refusals(done: Sequence[Run], first: Iterable[Run] = ()) -> dict[str, str]:
    """Return run ids with the reason why each is refused: its basis is not that of most of the variants.

    Among equally common bases that of the runs in `first` counts as the usual one.
    """
    bases = {run.id: Basis.of(run) for run in done}
    preferred = [bases[run.id] for run in first if run.id in bases]
    counts = _by_variant(done, bases)
    if len(counts) < 2:
        return _other_data(done)
    usual = max(counts, key=lambda basis: (counts[basis], basis in preferred))
    refused = {run_id: reason for run_id, basis in bases.items() if (reason := basis.unlike(usual))}
    return refused | _other_data([run for run in done if run.id not in refused])


def _other_data(done: Sequence[Run]) -> dict[str, str]:
    """Return runs whose data fingerprint differs from others' at their sample size: one of the configs is wrong."""
    refused: dict[str, str] = {}
    for size in {voxels(run.config) for run in done}:
        same = [run for run in done if voxels(run.config) == size]
        prints = {
            run.id: text for run in same if (text := ((run.provenance or {}).get("data") or {}).get("fingerprint"))
        }
        refused |= _unusual(
            same, prints, lambda own, usual: f"data of fingerprint {own} where the others of its size have {usual}"
        )
    return refused


def strangers(column: Column, done: Sequence[Run]) -> dict[str, str]:
    """Return run ids whose cells of one column are refused, with the reason: another network, or other volumes."""
    found: dict[str, str] = {}
    if column.part:
        networks = {run.id: network for run in done if (network := _network(column.part, run)) is not None}
        found = _unusual(done, networks, lambda own, usual: f"{column.name} measured {_of_network(own, usual)}")
    if column.of_set:
        sizes = {run.id: (run.set_scores or {}).get(column.key, {}).get("n") for run in done}
        known = {run_id: n for run_id, n in sizes.items() if n is not None}
        of_sets = _unusual(
            done, known, lambda own, usual: f"{column.name} over {own} volumes where the others have {usual}"
        )
        found = of_sets | found
    return found


def common_patients(having: Mapping[Any, Set[str]]) -> tuple[frozenset[str], dict[Any, int]]:
    """Return the patients of a column's cells, and by row the number of patients that a refused row lacks.

    having: for each row with the score, the patients who have it. The result is the patients of at least half of the
    rows, without those that a row lacks; a row that lacks more than MOST_LACKING of them is refused.
    """
    counts = Counter(patient for patients in having.values() for patient in patients)
    usual = {patient for patient, count in counts.items() if 2 * count >= len(having)}
    lacking = {row: len(usual - patients) for row, patients in having.items()}
    refused = {row: count for row, count in lacking.items() if count > MOST_LACKING * len(usual)}
    kept = [set(patients) for row, patients in having.items() if row not in refused]
    return frozenset(set.intersection(usual, *kept)), refused


def _by_variant(runs: Sequence[Run], entries: Mapping[str, Any]) -> Counter[Any]:
    """The number of variants that have a run with each entry, so that a row of many seeds counts once."""
    return Counter(entry for _, entry in {(run.variant, entries[run.id]) for run in runs if run.id in entries})


def _unusual(runs: Sequence[Run], entries: Mapping[str, Any], say: Any) -> dict[str, str]:
    counts = _by_variant(runs, entries)
    if len(counts) < 2:
        return {}
    most = max(counts.values())
    # Of equally common ones the first run's, which is the first row's.
    usual = next(entries[run.id] for run in runs if run.id in entries and counts[entries[run.id]] == most)
    return {run_id: say(entry, usual) for run_id, entry in entries.items() if entry != usual}


def _network(part: str, run: Run) -> tuple[str, str] | None:
    """Return the network behind a metric: its name, and the identity of its weights."""
    stand_ins = [s.name for s in run.stand_ins if s.part == part]
    entry: dict[str, Any] = (run.set_scores or {}).get("frechet" if part == "features" else "frechet_2d") or {}
    if not entry and not stand_ins and run.set_scores is None:
        return None
    name = stand_ins[0] if stand_ins else str(entry.get("extractor", "the real network"))
    return name, str(entry.get("weights", ""))


def _of_network(own: tuple[str, str], usual: tuple[str, str]) -> str:
    """Describe two networks distinguishably: by their weights if the names are equal."""
    if own[0] != usual[0]:
        return f"with {own[0]} where the others have {usual[0]}"
    weights = [f"weights {text[:12]}" if text else "weights that were not recorded" for text in (own[1], usual[1])]
    return f"with {own[0]} of {weights[0]} where the others have {weights[1]}"


def _other_patients(ours: Mapping[str, str], usual: Mapping[str, str]) -> str:
    shared = ours.keys() & usual.keys()
    if len(shared) == len(ours) == len(usual):
        changed = sum(ours[patient] != usual[patient] for patient in shared)
        return f"another label of {changed} of the {len(usual)} test patients"
    return f"{len(ours)} test patients of whom {len(shared)} are among the others' {len(usual)}"


def _label(label: Any) -> str:
    """A label as text, whatever type it was written in: 1, 1.0 and True are one label."""
    try:
        return f"{float(label):g}"
    except (TypeError, ValueError):
        return str(label)


def _version(version: object) -> str:
    return "unknown" if version is None else repr(version)


def _range(window: tuple[float, float]) -> str:
    return f"{window[0]:g}..{window[1]:g}".replace("-", "−")
