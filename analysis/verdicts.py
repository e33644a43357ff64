"""The paper's claims as tests: a verdict on each from the runs and classifications there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from analysis import table2, table3
from analysis.choice import unmeasured
from analysis.classifications import Classification
from analysis.measures import COLUMNS, of_same_seeds, paired, patient_means
from analysis.pictures.source import Source
from analysis.stats.folds import paired_over_folds
from analysis.stats.paired import compare, holm, summary
from analysis.stats.power import power_of, power_of_z
from analysis.table2 import Row

FILE = Path(__file__).parent / "claims.yaml"
ALPHA, ENOUGH_POWER, MEDIUM = 0.05, 0.8, 0.5
"""MEDIUM: in SDs of the reference's patients, what an improvement must stay below to count as none."""
Verdict = Literal["supported", "contradicted", "not enough data", "not run"]
_INPUTS = {"ctpa": "true CTs", "xray": "X-rays", "generated": "generated volumes"}


@dataclass(frozen=True)
class Effect:
    """One number behind a claim: how much better a is than b (positive: better), whatever the metric's direction.

    NaN where there is nothing to test, and `missing` says why.
    """

    metric: str
    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    p: float = math.nan
    n: int = 0
    power: float = math.nan
    """The chance to find `aim` without a correction; NaN where that speaks against the claim itself."""
    aim: float = math.nan
    """The paper's effect, positive where it is an improvement; of `not_better`, one of MEDIUM size."""
    p_holm: float = math.nan
    verdict: Verdict = "not enough data"
    missing: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with what the data say of it."""

    id: str
    says: str
    where: str
    expects: str
    a: str
    b: str
    """What is compared, in words: rows, or inputs with the variant whose volumes were classified."""
    verdict: Verdict
    effects: tuple[Effect, ...]
    missing: str
    """Why there is nothing to test, and what to run; empty where there is something."""


def judge(source: Source, claims: Path = FILE) -> list[Judged]:
    """A verdict on every claim, from the rows of Table 2 and the classifications.

    A metric supports `better` or `worse` where the effect is significant in that direction (Wilcoxon's or DeLong's p
    below ALPHA, Holm's correction over all effects of these claims). It contradicts them where it is significant the
    other way, or where the paper's effect would have been found (power from ENOUGH_POWER) and the interval excludes it
    without lying wholly on the claimed side. `not_better` is contradicted by a significant improvement, and else
    supported by a significant decline or an interval that ends below a MEDIUM effect. A claim is contradicted where one
    metric contradicts it, else supported where every metric does; a metric that one of the rows lacks does not.
    """
    listed: list[dict[str, Any]] = yaml.safe_load(claims.read_text(encoding="utf-8"))
    raw = [_of_rows(claim, source) if claim["table"] == 2 else _of_inputs(claim, source) for claim in listed]
    tested = [effect.p for judged in raw for effect in judged.effects if not math.isnan(effect.p)]
    corrected = iter(holm(tested))
    return [_with_verdicts(judged, corrected) for judged in raw]


def _of_rows(claim: Mapping[str, Any], source: Source) -> Judged:
    """A claim about two rows of Table 2; what that table refuses is not tested here either."""
    rows = {row.variant: row for row in reversed(source.table.rows)}
    sides = [claim["a"], claim["b"]]
    absent = [variant for variant in sides if variant not in rows or not rows[variant].cells]
    if absent:
        states = {variant: rows[variant].detail if variant in rows else "not run" for variant in absent}
        # What is refused was run: to run it once more would not help.
        lacking = [v for v in absent if v not in rows or rows[v].state not in ("refused", "done")]
        why = "; ".join(f"{variant}: {state}" for variant, state in states.items())
        return _empty(claim, sides, why, [_command(source, "train.py", variant) for variant in lacking])
    a, b = (rows[variant] for variant in sides)
    paper = {row.variant: row.paper for row in table2.paper_rows(2)}
    effects = tuple(_of_patients(metric, a, b, claim, paper) for metric in claim["metrics"])
    return Judged(**_about(claim), a=a.variant, b=b.variant, verdict="not enough data", effects=effects, missing="")


def _of_patients(metric: str, a: Row, b: Row, claim: Mapping[str, Any], paper: Mapping[str, Any]) -> Effect:
    if why := unmeasured(metric, a, b):
        return Effect(metric, missing=why)
    column = next(c for c in COLUMNS if c.key == metric)
    ours, theirs = (patient_means(runs, metric) for runs in of_same_seeds(a.done, b.done))
    pairs = paired(ours, theirs)
    if len(pairs) < 2:
        return Effect(metric, missing="fewer than two patients have both scores")
    sign = column.better
    result = compare([sign * x for x, _ in pairs], [sign * y for _, y in pairs])
    aim = MEDIUM * summary([y for _, y in pairs]).sd
    if claim["expects"] != "not_better":
        values = [paper.get(row.variant, {}).get(metric) for row in (a, b)]
        # A stand-in's distances have another scale than the paper's network's: the paper's size says nothing of them.
        another = any(s.part == column.part for run in (*a.done, *b.done) for s in run.stand_ins)
        aim = sign * (values[0].mean - values[1].mean) if all(values) and not another else math.nan
    power = power_of(aim, result.sd, result.n) if _speaks_for(claim["expects"], aim) else math.nan
    return Effect(metric, result.difference, result.ci_low, result.ci_high, result.p, result.n, power, aim)


def _of_inputs(claim: Mapping[str, Any], source: Source) -> Judged:
    """A claim about inputs of classifiers: of one classification, or of two that are named by their variant."""
    of, row = source.classification, source.checked
    by_variant = {c.variant: c for c in reversed(source.classifications) if c.predictions is not None}
    sides = [tuple(side.rpartition("/")[::2]) for side in (claim["a"], claim["b"])]
    usual = of.variant if of else row.variant if row else "full"
    chosen = [by_variant.get(variant) if variant else of for variant, _ in sides]
    names = [_input_name(arm, variant or usual) for variant, arm in sides]
    if lacking := sorted({v or usual for (v, _), c in zip(sides, chosen, strict=True) if c is None}):
        commands = [_command(source, "classify.py", variant) for variant in lacking]
        return _empty(claim, names, f"no classification of {' and '.join(lacking)}", commands)
    arms = [arm for _, arm in sides]
    a, b = (_test(c, arm) for c, arm in zip(chosen, arms, strict=True))
    keys = ["fold", "patient", "label"]
    if a[keys].to_numpy().tolist() != b[keys].to_numpy().tolist() or a.empty:
        return _empty(claim, names, "the two were not classified on the same patients and folds", [])
    parts = [(part["label"], part["score"], b.loc[part.index, "score"]) for _, part in a.groupby("fold", sort=True)]
    try:
        result = paired_over_folds(parts)
    except ValueError as error:
        return _empty(claim, names, f"it cannot be tested: {' '.join(str(error).split())}", [])
    paper = {arm: float(table3.paper_values()[arm]["auc"]) for arm in table3.LABELS}
    aim = paper[arms[0]] - paper[arms[1]] if arms[0] != arms[1] else math.nan
    power = power_of_z(aim, result.se) if _speaks_for(claim["expects"], aim) else math.nan
    effect = Effect("AUC", result.difference, *result.ci, result.p, len(a), power, aim)
    return Judged(**_about(claim), a=names[0], b=names[1], verdict="not enough data", effects=(effect,), missing="")


def _command(source: Source, name: str, variant: str) -> str:
    """A command for a page, which names no folder of runs."""
    return Source(source.group).script(name, variant)


def _input_name(arm: str, variant: str) -> str:
    return _INPUTS[arm] + (f" by {variant}" if arm == "generated" else "")


def _about(claim: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(claim[key]) for key in ("id", "says", "where", "expects")}


def _empty(claim: Mapping[str, Any], sides: Sequence[str], why: str, commands: Sequence[str]) -> Judged:
    """A claim that cannot be tested; it was not run where commands would change that."""
    missing = why + (f"; run: {'; '.join(f'`{command}`' for command in commands)}" if commands else "")
    verdict: Verdict = "not run" if commands else "not enough data"
    return Judged(**_about(claim), a=sides[0], b=sides[1], verdict=verdict, effects=(), missing=missing)


def _test(c: Classification | None, arm: str) -> Any:
    assert c is not None and c.predictions is not None
    own = c.predictions[(c.predictions["arm"] == arm) & (c.predictions["split"] == "test")]
    return own.sort_values(["fold", "patient"], kind="stable").reset_index(drop=True)


def _speaks_for(expects: str, aim: float) -> bool:
    """Whether an effect lies in the claimed direction. The paper's table does not bear out all that its text says."""
    return aim > 0 if expects in ("better", "not_better") else aim < 0


def _with_verdicts(judged: Judged, corrected: Iterator[float]) -> Judged:
    """The claim with each effect's p from `corrected`, and what follows."""
    if not judged.effects:
        return judged
    effects = tuple(
        effect if math.isnan(effect.p) else _with_verdict(replace(effect, p_holm=next(corrected)), judged.expects)
        for effect in judged.effects
    )
    return replace(judged, effects=effects, verdict=_together(effects))


def _with_verdict(effect: Effect, expects: str) -> Effect:
    better = effect.p_holm < ALPHA and effect.value > 0
    worse = effect.p_holm < ALPHA and effect.value < 0
    if expects == "not_better":
        supported, contradicted = worse or effect.ci_high < effect.aim, better
    else:
        sign = +1 if expects == "better" else -1
        supported, against = (better, worse) if sign > 0 else (worse, better)
        low, high = (effect.ci_low, effect.ci_high) if sign > 0 else (-effect.ci_high, -effect.ci_low)
        # As large as the paper's, it would have shown. An interval on the claimed side leaves a smaller one.
        would_show = effect.power >= ENOUGH_POWER
        contradicted = against or (would_show and low <= 0 and high < sign * effect.aim)
    verdict: Verdict = "contradicted" if contradicted else "supported" if supported else "not enough data"
    return replace(effect, verdict=verdict)


def _together(effects: Sequence[Effect]) -> Verdict:
    verdicts = {effect.verdict for effect in effects}
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts == {"supported"} else "not enough data"
