"""The paper's claims as tests: a verdict on each from the runs and classifications there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from analysis import table2, table3
from analysis.classifications import Classification
from analysis.measures import COLUMNS, by_patient
from analysis.runs import Group, Run
from analysis.stats.folds import paired_over_folds
from analysis.stats.paired import compare, holm, summary
from analysis.stats.power import power_of, power_of_z

FILE = Path(__file__).parent / "claims.yaml"
ALPHA, ENOUGH_POWER, MEDIUM = 0.05, 0.8, 0.5
"""MEDIUM: in SDs of the reference's patients, what an improvement must stay below to count as none."""
Verdict = Literal["supported", "contradicted", "not enough data"]


@dataclass(frozen=True)
class Effect:
    """One number behind a claim: how much better a is than b (positive: better), whatever the metric's direction."""

    metric: str
    value: float
    ci_low: float
    ci_high: float
    p: float
    n: int
    power: float
    """The chance to find an effect as large as the paper's; of `not_better`, one of MEDIUM size."""
    aim: float
    """That effect: positive where it is an improvement."""
    p_holm: float = math.nan
    verdict: Verdict = "not enough data"


@dataclass(frozen=True)
class Judged:
    """A claim with what the data say of it."""

    id: str
    says: str
    where: str
    expects: str
    verdict: Verdict
    effects: tuple[Effect, ...]
    missing: str
    """What has to be run first; empty where there was something to test."""


def judge(group: Group | None, found: Sequence[Classification], claims: Path = FILE) -> list[Judged]:
    """A verdict on every claim.

    A metric supports its claim where the difference is significant (Wilcoxon's or DeLong's p, Holm's correction over all
    effects of the page) in the claimed direction. It contradicts it where it is significant the other way, or where an
    effect as large as the paper's would have been found (power 80 %) and the interval holds none but excludes it. That a does not beat b
    is supported by an interval below a medium effect. A claim is supported where all its metrics are, contradicted where
    one is.
    """
    listed: list[dict[str, Any]] = yaml.safe_load(claims.read_text(encoding="utf-8"))
    runs = _rows(group)
    raw = [_effects(claim, runs, found) for claim in listed]
    corrected = iter(holm([effect.p for effects, _ in raw for effect in effects]))
    judged: list[Judged] = []
    for claim, (effects, missing) in zip(listed, raw, strict=True):
        told = tuple(_with_verdict(replace(e, p_holm=next(corrected)), claim["expects"]) for e in effects)
        about = {key: str(claim[key]) for key in ("id", "says", "where", "expects")}
        judged.append(Judged(**about, verdict=_together(told), effects=told, missing=missing))
    return judged


def _rows(group: Group | None) -> dict[str, list[Run]]:
    """Finished runs by row of Table 2; what that table refuses has none here either."""
    rows = table2.collect(group).rows if group else ()
    return {row.variant: [run for run in row.runs if run.state == "done"] for row in rows if row.cells}


def _effects(
    claim: Mapping[str, Any], runs: Mapping[str, list[Run]], found: Sequence[Classification]
) -> tuple[list[Effect], str]:
    if claim["table"] == 3:
        return _of_classifications(claim, found)
    absent = [variant for variant in (claim["a"], claim["b"]) if not runs.get(variant)]
    if absent:
        return [], f"no finished run of {' and '.join(absent)}"
    paper = {row.variant: row.paper for row in table2.paper_rows(2)}
    effects = [
        effect
        for metric in claim["metrics"]
        if (effect := _of_patients(metric, runs[claim["a"]], runs[claim["b"]], claim, paper)) is not None
    ]
    return effects, "" if effects else "no patient was scored in both rows"


def _of_patients(
    metric: str, a: Sequence[Run], b: Sequence[Run], claim: Mapping[str, Any], paper: Mapping[str, Any]
) -> Effect | None:
    column = next(c for c in COLUMNS if c.key == metric)
    ours, theirs = ({p: sum(v) / len(v) for p, v in by_patient(runs, metric).items()} for runs in (a, b))
    pairs = [(ours[p], theirs[p]) for p in theirs if p in ours and math.isfinite(ours[p] + theirs[p])]
    if len(pairs) < 2:
        return None
    sign = column.better
    result = compare([sign * x for x, _ in pairs], [sign * y for _, y in pairs])
    aim = MEDIUM * summary([y for _, y in pairs]).sd
    if claim["expects"] != "not_better":
        values = [paper.get(claim[side], {}).get(metric) for side in "ab"]
        # A stand-in's distances have another scale than the paper's network's: the paper's size says nothing of them.
        another = any(s.part == column.part for run in (*a, *b) for s in run.stand_ins)
        aim = sign * (values[0].mean - values[1].mean) if all(values) and not another else math.nan
    power = power_of(aim, result.sd, result.n)
    return Effect(metric, result.difference, result.ci_low, result.ci_high, result.p, result.n, power, aim)


def _of_classifications(claim: Mapping[str, Any], found: Sequence[Classification]) -> tuple[list[Effect], str]:
    done = [c for c in found if c.predictions is not None]
    wanted = [side.split("/") for side in (claim["a"], claim["b"])]
    if any(len(side) == 2 for side in wanted):
        chosen = [next((c for c in done if c.variant == side[0]), None) for side in wanted]
        arms = [side[1] for side in wanted]
    else:
        chosen, arms = [done[0] if done else None] * 2, [side[0] for side in wanted]
    if any(c is None for c in chosen):
        variants = sorted({side[0] for side, c in zip(wanted, chosen, strict=True) if c is None and len(side) == 2})
        return [], "no classification; run: " + "; ".join(
            f"python x2c/classify.py --variant {v}" for v in variants or ["full"]
        )
    tables = [_test(c, arm) for c, arm in zip(chosen, arms, strict=True)]
    a, b = tables
    keys = ["fold", "patient", "label"]
    if a[keys].to_numpy().tolist() != b[keys].to_numpy().tolist() or a.empty:
        return [], "the two were not classified on the same patients and folds"
    parts = [(part["label"], part["score"], b.loc[part.index, "score"]) for _, part in a.groupby("fold", sort=True)]
    result = paired_over_folds(parts)
    paper = {arm: float(table3.paper_values()[arm]["auc"]) for arm in table3.LABELS}
    aim = paper[arms[0]] - paper[arms[1]] if arms[0] != arms[1] else math.nan
    power = power_of_z(aim, result.se) if math.isfinite(aim) else math.nan
    return [Effect("AUC", result.difference, *result.ci, result.p, len(a), power, aim)], ""


def _test(c: Classification | None, arm: str) -> Any:
    assert c is not None and c.predictions is not None
    own = c.predictions[(c.predictions["arm"] == arm) & (c.predictions["split"] == "test")]
    return own.sort_values(["fold", "patient"], kind="stable").reset_index(drop=True)


def _with_verdict(effect: Effect, expects: str) -> Effect:
    better = effect.p_holm < ALPHA and effect.value > 0
    worse = effect.p_holm < ALPHA and effect.value < 0
    if expects == "not_better":
        supported, contradicted = worse or effect.ci_high < effect.aim, better
    else:
        sign = +1 if expects == "better" else -1
        supported, against = (better, worse) if sign > 0 else (worse, better)
        low, high = (effect.ci_low, effect.ci_high) if sign > 0 else (-effect.ci_high, -effect.ci_low)
        # As large as the paper's, in the claimed direction: it would have shown, and is not there.
        would_show = effect.power >= ENOUGH_POWER and sign * effect.aim > 0
        contradicted = against or (would_show and low <= 0 and high < sign * effect.aim)
    verdict: Verdict = "contradicted" if contradicted else "supported" if supported else "not enough data"
    return replace(effect, verdict=verdict)


def _together(effects: Sequence[Effect]) -> Verdict:
    verdicts = {effect.verdict for effect in effects}
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts == {"supported"} else "not enough data"
