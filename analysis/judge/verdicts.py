"""The paper's claims as tests: a verdict on each from the available runs and classifications."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from analysis.read.classifications import Classification
from analysis.read.recipes import differences_in_making, differences_in_recipe
from analysis.read.runs import Run, StandIn, voxels
from analysis.render.numbers import number
from analysis.stats.folds import paired_over_folds
from analysis.stats.paired import ALPHA, compare, holm, holm_levels, side, summary, t_interval
from analysis.stats.power import detectable, detectable_z, patients_needed
from analysis.tabulate import embolism, quality
from analysis.tabulate.choice import unmeasured
from analysis.tabulate.measures import Column, paired, patient_means, per_seed
from analysis.tabulate.quality import Table
from analysis.tabulate.quality_notes import MADE_WITH
from analysis.tabulate.rows import Row
from analysis.tabulate.source import Source
from x2c.core.yaml_text import load_yaml

FILE = Path(__file__).parents[1] / "claims.yaml"
PAPER_SCALE = "paper"
"""The only scale at which the paper's effect sizes are shown beside the measured ones."""
FEWEST_SEEDS = 3
"""Number of seeds of both rows that must agree before an effect decides anything; also the number of seeds of a recipe
needed for the spread between seeds, which is the margin of "not better"."""
NOT_TESTABLE: Final = "not testable here (stand-in)"
Verdict = Literal[
    "supported", "contradicted", "not enough data", "not testable here (stand-in)", "not comparable", "not run"
]
VERDICTS: tuple[Verdict, ...] = (
    "supported",
    "contradicted",
    "not enough data",
    NOT_TESTABLE,
    "not comparable",
    "not run",
)
_INPUTS = {"ctpa": "true CTs", "xray": "X-rays", "generated": "generated volumes"}
Interval = tuple[float, float]
_NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True)
class Effect:
    """A measured effect of a claim: how much better a is than b (positive: better), whatever the metric's direction.

    NaN if there is nothing to test; `says` gives the reason.
    """

    metric: str
    """Key of the metric, such as `psnr`; `AUC` for areas."""
    name: str = ""
    """Name of the metric in tables, with its unit; a stand-in network changes it."""
    value: float = math.nan
    ci: Interval = _NO_INTERVAL
    """95 % interval, for this effect alone."""
    corrected_ci: Interval = _NO_INTERVAL
    """Interval at the level of Holm's correction, used for the verdict."""
    p: float = math.nan
    """Two-sided p of no difference."""
    p_holm: float = math.nan
    n: int = 0
    """Number of patients."""
    sd: float = math.nan
    """SD of the differences of n patients; for an area, DeLong's standard error times √n."""
    margin: float = math.nan
    """For `not_better`: the SD between seeds of b's recipe. A smaller improvement may be due to the seed."""
    p_margin: float = math.nan
    """For `not_better`: one-sided p of an improvement as large as the margin."""
    p_margin_holm: float = math.nan
    seeds: tuple[float, ...] | None = None
    """Effect in each seed that both rows have; None for an area, whose folds have a generator each."""
    detectable: float = math.nan
    """Minimum detectable effect: found by this n with a chance of 80 % after the correction."""
    paper: float = math.nan
    """The paper's effect, positive for an improvement; only at scale paper."""
    verdict: Verdict = "not enough data"
    says: str = ""
    """Reason why there is no number or no verdict, and what would be needed."""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict."""

    id: str
    says: str
    where: str
    expects: str
    a: str
    b: str
    """The compared sides in words: rows, or inputs with the variant whose volumes were classified."""
    verdict: Verdict
    effects: tuple[Effect, ...]
    reason: str = ""
    """Reason why there is no verdict; empty if the effects give it."""
    commands: tuple[str, ...] = ()
    """Commands that make what a verdict needs."""
    stand_ins: tuple[StandIn, ...] = ()
    """Stand-ins in the place of parts that the claim is about; with one it is not testable."""

    @property
    def missing(self) -> str:
        """Reason why there is no verdict, and what to run."""
        return self.reason + (
            f"; run: {'; '.join(f'`{command}`' for command in self.commands)}" if self.commands else ""
        )


def judge(source: Source, claims: Path = FILE) -> list[Judged]:
    """Return a verdict on every claim, from the rows of Table 2 and the classifications.

    A claim about a part that a stand-in replaced is not testable here; nor is a metric that a stand-in network
    measured. Neither takes part in the correction. For the others, p comes from two paired tests that agree
    (`analysis.stats.paired.compare`), or DeLong's, with Holm's correction over all tests of these claims, and so does the
    level of the interval:

    - `better` and `worse` are supported if the corrected interval lies wholly on the claimed side of 0 and p is
      significant, and contradicted if it lies wholly on the other side;
    - `not_better` is contradicted if the interval lies wholly on the side of an improvement. It is supported if it lies
      wholly on the other side, or below the margin, which is tested as well: the SD between seeds of b's recipe. An interval
      (of 95 %) that lies on the side of an improvement supports nothing.

    That is a test over patients of one or more trainings. A claim is about recipes: whatever the interval says, an effect of
    rows decides something only where FEWEST_SEEDS seeds of both rows or more are finished and agree: in the sign of the
    effect, or in lying below the margin. A claim is contradicted if one metric contradicts it, and supported if all
    of its metrics support it. Rows whose recipes differ in more than their own files are not compared.
    """
    listed: list[dict[str, Any]] = load_yaml(claims.read_text(encoding="utf-8"))
    raw = [_of_rows(claim, source) if claim["table"] == 2 else _of_inputs(claim, source) for claim in listed]
    tested = [p for judged in raw for effect in judged.effects for p in _family(effect)]
    corrected = iter(zip(holm(tested), holm_levels(tested, ALPHA), strict=True))
    return [_with_verdicts(judged, corrected, len(tested)) for judged in raw]


def family_size(judged: Sequence[Judged]) -> int:
    """Return the number of tests in Holm's correction."""
    return sum(len(_family(effect)) for claim in judged for effect in claim.effects)


def _family(effect: Effect) -> list[float]:
    """Return the p values of an effect that take part in the correction."""
    if effect.verdict == NOT_TESTABLE:
        return []
    return [p for p in (effect.p, effect.p_margin) if not math.isnan(p)]


def _of_rows(claim: Mapping[str, Any], source: Source) -> Judged:
    """Judge a claim about two rows of Table 2; a comparison that the table refuses is not tested here either."""
    rows = {row.variant: row for row in reversed(source.table.rows)}
    sides = [claim["a"], claim["b"]]
    absent = [variant for variant in sides if variant not in rows or not rows[variant].cells]
    if absent:
        states = {variant: rows[variant].detail if variant in rows else "not run" for variant in absent}
        # A refused run exists: running it once more would not help.
        lacking = [v for v in absent if v not in rows or rows[v].state not in ("refused", "done")]
        why = "; ".join(f"{variant}: {state}" for variant, state in states.items())
        return _empty(claim, sides, why, [_command(source, "train.py", variant) for variant in lacking])
    a, b = (rows[variant] for variant in sides)
    if voxels(a.done[0].config) != voxels(b.done[0].config):
        why = "the two have other sample sizes, and each is scored against the truth at its own"
        return _empty(claim, sides, why, [], "not comparable")
    pairs = [(run, _same_seed(run, b)) for run in a.done]
    if recipe := list(dict.fromkeys(text for pair in pairs for text in differences_in_recipe(*pair))):
        why = (
            f"the recipe of {a.label} differs from that of {b.label} in more than their own files: {', '.join(recipe)}"
        )
        return _empty(claim, sides, why, [], "not comparable")
    making = list(dict.fromkeys(text for pair in pairs for text in differences_in_making(*pair)))
    stand_ins = _standing_for(claim, [s for run in (*a.done, *b.done) for s in run.stand_ins])
    effects = tuple(_of_patients(metric, a, b, claim, source) for metric in claim["metrics"])
    if stand_ins:
        effects = tuple(replace(effect, verdict=NOT_TESTABLE) for effect in effects)
    told = _replaced(stand_ins) or (f"{MADE_WITH} {', '.join(making)} of {b.label}" if making else "")
    judged = Judged(**_about(claim), a=a.variant, b=b.variant, verdict="not enough data", effects=effects)
    return replace(judged, reason=told, stand_ins=stand_ins)


def _same_seed(run: Run, row: Row) -> Run:
    return next((other for other in row.done if other.seed == run.seed), row.done[0])


def _of_patients(metric: str, a: Row, b: Row, claim: Mapping[str, Any], source: Source) -> Effect:
    table = source.table
    column = _column(table, metric)
    name = f"{column.name} {column.unit}".strip()
    if why := unmeasured(metric, a, b):
        return Effect(metric, name, says=why)
    ours, theirs = (
        {p: mean for p, mean in patient_means(row.done, metric).items() if p in table.patients[metric]}
        for row in (a, b)
    )
    pairs = paired(ours, theirs)
    if len(pairs) < 2:
        return Effect(metric, name, says="fewer than two patients have both scores")
    sign = column.better
    x, y = [sign * one for one, _ in pairs], [sign * one for _, one in pairs]
    result = compare(x, y)
    ci = (result.ci_low, result.ci_high)
    effect = Effect(metric, name, result.difference, ci, p=result.p, n=result.n, sd=result.sd)
    effect = replace(effect, seeds=_by_seed(column, a, b, table))
    stand_ins = {s for run in (*a.done, *b.done) for s in run.stand_ins if column.part and s.part == column.part}
    if stand_ins:
        named = ", ".join(sorted(s.name for s in stand_ins))
        return replace(effect, verdict=NOT_TESTABLE, says=f"measured by the stand-in {named}")
    if source.group.scale == PAPER_SCALE:
        paper = {row.variant: row.paper.get(metric) for row in quality.paper_rows(2)}
        of_a, of_b = paper.get(a.variant), paper.get(b.variant)
        if of_a and of_b:
            effect = replace(effect, paper=sign * (of_a.mean - of_b.mean))
    if claim["expects"] == "not_better" and not math.isnan(margin := seed_spread(column, b, table)):
        below = compare(x, [one + margin for one in y])
        # One-sided: the half on the side of the margin.
        p = below.p / 2 if below.difference < 0 else 1 - below.p / 2
        effect = replace(effect, margin=margin, p_margin=p)
    return effect


def seed_spread(column: Column, row: Row, table: Table) -> float:
    """Return the SD between the seeds of a row's recipe of its mean over patients; NaN below FEWEST_SEEDS seeds."""
    strange = table.strange[column.key]
    values = [per_seed(column, run, table.patients[column.key]) for run in row.finished if run.id not in strange]
    finite = [value for value in values if math.isfinite(value)]
    return summary(finite).sd if len(finite) >= FEWEST_SEEDS else math.nan


def _by_seed(column: Column, a: Row, b: Row, table: Table) -> tuple[float, ...]:
    strange, over = table.strange[column.key], table.patients[column.key]
    ours, theirs = ({run.seed: run for run in row.finished if run.id not in strange} for row in (a, b))
    shared = sorted(ours.keys() & theirs.keys())
    values = [column.better * (per_seed(column, ours[s], over) - per_seed(column, theirs[s], over)) for s in shared]
    return tuple(value for value in values if math.isfinite(value))


def _of_inputs(claim: Mapping[str, Any], source: Source) -> Judged:
    """Judge a claim about inputs of classifiers: of one classification, or of two named by their variant."""
    row = source.checked
    first = source.classification
    sides = [tuple(side.rpartition("/")[::2]) for side in (claim["a"], claim["b"])]
    usual = first.variant if first else row.variant if row else "full"
    names = [_input_name(arm, variant or usual) for variant, arm in sides]
    of_sides = [
        [c for c in source.classifications if c.variant == variant] if variant else [first] for variant, _ in sides
    ]
    candidates = [[c for c in some if c is not None and c.predictions is not None] for some in of_sides]
    if lacking := sorted({v or usual for (v, _), some in zip(sides, candidates, strict=True) if not some}):
        commands = [_command(source, "classify.py", variant) for variant in lacking]
        return _empty(claim, names, f"no classification of {' and '.join(lacking)}", commands)
    # Of several, the two that may be compared; if none may, the reason of the latest two.
    reasons = {(i, j): embolism.unlike(c, d) if c is not d else "" for i, c in enumerate(candidates[0])
               for j, d in enumerate(candidates[1])}  # fmt: skip
    i, j = min(reasons, key=lambda place: (bool(reasons[place]), place))
    if why := reasons[i, j]:
        return _empty(claim, names, f"the two classifications cannot be compared: {why}", [], "not comparable")
    a, b = candidates[0][i], candidates[1][j]
    if any(arm == "generated" and embolism.leaks(c) for c, (_, arm) in zip((a, b), sides, strict=True)):
        why = (
            "LEAK: one generator made the volumes of all patients, and was trained on the true CTs of most of them; "
            "cross-fitted generators have no such leak"
        )
        return _empty(claim, names, why, [], "not comparable")
    tables = {id(c): embolism.collect(c) for c in (a, b)}
    for c, (_, arm) in zip((a, b), sides, strict=True):
        if arm not in tables[id(c)].arms:
            return _empty(claim, names, f"{_INPUTS[arm]}: {tables[id(c)].refused.get(arm, 'no area')}", [])
    arms = [arm for _, arm in sides]
    ours, theirs = (_test(c, arm) for c, arm in zip((a, b), arms, strict=True))
    parts = [
        (part["label"], part["score"], theirs.loc[part.index, "score"]) for _, part in ours.groupby("fold", sort=True)
    ]
    try:
        result = paired_over_folds(parts)
    except ValueError as error:
        return _empty(claim, names, f"it cannot be tested: {' '.join(str(error).split())}", [])
    if not result.se > 0:
        return _empty(claim, names, "it cannot be tested: the difference of the areas has no variance", [])
    n = len(ours)
    effect = Effect("AUC", "AUC", result.difference, result.ci, p=result.p, n=n, sd=result.se * math.sqrt(n))
    if source.group.scale == PAPER_SCALE and arms[0] != arms[1]:
        paper = {arm: float(embolism.paper_values()[arm]["auc"]) for arm in embolism.LABELS}
        effect = replace(effect, paper=paper[arms[0]] - paper[arms[1]])
    stand_ins = _standing_for(claim, [s for c in (a, b) for s in c.stand_ins])
    effect = replace(effect, verdict=NOT_TESTABLE) if stand_ins else effect
    judged = Judged(**_about(claim), a=names[0], b=names[1], verdict="not enough data", effects=(effect,))
    return replace(judged, reason=_replaced(stand_ins), stand_ins=stand_ins)


def _standing_for(claim: Mapping[str, Any], stand_ins: Sequence[StandIn]) -> tuple[StandIn, ...]:
    """Return the stand-ins for a part that the claim is about."""
    return tuple(sorted({s for s in stand_ins if s.part in claim.get("about", ())}, key=lambda s: s.text))


def _replaced(stand_ins: Sequence[StandIn]) -> str:
    """Say that stand-ins replaced what a claim is about; empty if there are none."""
    found = "; ".join(dict.fromkeys(s.text for s in stand_ins))
    return f"a stand-in replaced a part that the claim is about: {found}" if found else ""


def _command(source: Source, name: str, variant: str) -> str:
    """Return a command for a page, without a folder of runs."""
    return Source(source.group).script(name, variant)


def _input_name(arm: str, variant: str) -> str:
    return _INPUTS[arm] + (f" by {variant}" if arm == "generated" else "")


def _about(claim: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(claim[key]) for key in ("id", "says", "where", "expects")}


def _empty(
    claim: Mapping[str, Any],
    sides: Sequence[str],
    why: str,
    commands: Sequence[str],
    verdict: Verdict = "not enough data",
) -> Judged:
    """Return a claim that cannot be tested; its verdict is "not run" if commands would change that."""
    verdict = "not run" if commands else verdict
    judged = Judged(**_about(claim), a=sides[0], b=sides[1], verdict=verdict, effects=())
    return replace(judged, reason=why, commands=tuple(commands))


def _test(c: Classification, arm: str) -> Any:
    assert c.predictions is not None
    own = c.predictions[(c.predictions["arm"] == arm) & (c.predictions["split"] == "test")]
    return own.sort_values(["fold", "patient"], kind="stable").reset_index(drop=True)


def _with_verdicts(judged: Judged, corrected: Iterator[tuple[float, float]], tests: int) -> Judged:
    """Return the claim with each effect's p and interval from `corrected`, and its verdict."""
    if not judged.effects:
        return judged
    effects = tuple(_corrected(effect, judged.expects, corrected, tests) for effect in judged.effects)
    return replace(judged, effects=effects, verdict=_together(effects))


def _corrected(effect: Effect, expects: str, corrected: Iterator[tuple[float, float]], tests: int) -> Effect:
    if not _family(effect):
        return effect
    p_holm, level = next(corrected)
    p_margin_holm, margin_level = next(corrected) if not math.isnan(effect.p_margin) else (math.nan, math.nan)
    effect = replace(effect, p_holm=p_holm, p_margin_holm=p_margin_holm, corrected_ci=_interval(effect, level))
    least = detectable_z(effect.sd / math.sqrt(effect.n), ALPHA / tests) if effect.metric == "AUC" else detectable(
        effect.sd, effect.n, ALPHA / tests)  # fmt: skip
    # A one-sided bound is the end of a two-sided interval at twice that level.
    highest = _interval(effect, 2 * margin_level)[1] if not math.isnan(margin_level) else math.nan
    return _with_verdict(replace(effect, detectable=least), expects, level, highest)


def _interval(effect: Effect, alpha: float) -> Interval:
    """Return the effect's interval of level 1 - alpha: Student's, or for an area DeLong's normal one."""
    if effect.metric != "AUC":
        return t_interval(effect.value, effect.sd, effect.n, alpha)
    from scipy.special import ndtri

    half = -float(ndtri(alpha / 2)) * effect.sd / math.sqrt(effect.n)
    return effect.value - half, effect.value + half


def _with_verdict(effect: Effect, expects: str, level: float, highest: float) -> Effect:
    """Return the effect with its verdict. highest: the upper end of the one-sided interval compared with the margin."""
    decided = side(effect.corrected_ci, effect.p_holm)
    better, worse = decided > 0, decided < 0
    if expects == "not_better":
        looks_better = effect.ci[0] > 0
        within = side((-math.inf, highest), effect.p_margin_holm, of=effect.margin) < 0
        supported, contradicted = worse or (within and not looks_better), better
    else:
        supported, contradicted = (better, worse) if expects == "better" else (worse, better)
    if (supported or contradicted) and (why := _seeds_disagree(effect, better=better, worse=worse)):
        return replace(effect, says=why)
    verdict: Verdict = "contradicted" if contradicted else "supported" if supported else "not enough data"
    return replace(
        effect, verdict=verdict, says="" if verdict != "not enough data" else _needed(effect, expects, level)
    )


def _seeds_disagree(effect: Effect, *, better: bool, worse: bool) -> str:
    """Explain why an effect significant over patients says nothing of the recipes; empty if the seeds of both agree."""
    if effect.seeds is None:
        return ""
    if (missing := FEWEST_SEEDS - len(effect.seeds)) > 0:
        return (
            f"it is significant over patients, in {len(effect.seeds)} training seed{'s' if len(effect.seeds) > 1 else ''}; {missing} more of "
            "both rows are needed to tell it from the difference between two trainings"
        )
    told = ", ".join(number(one, signed=True) for one in effect.seeds)
    if (better or worse) and not all(one > 0 if better else one < 0 for one in effect.seeds):
        return f"the sign is not the same in all seeds ({told}); more seeds are needed"
    if not (better or worse) and any(one >= effect.margin for one in effect.seeds):
        return f"in one of the seeds ({told}) it is not below the margin; more seeds are needed"
    return ""


def _needed(effect: Effect, expects: str, level: float) -> str:
    """Describe what would be needed for a verdict."""
    aim, what = abs(effect.value), "an effect of this size"
    if expects == "not_better":
        if math.isnan(effect.margin):
            return f"no margin: {FEWEST_SEEDS} finished seeds of b's recipe are needed"
        if effect.ci[0] > 0 or effect.value >= effect.margin:
            return f"it looks like an improvement, no larger than differences between seeds may be (SD {number(effect.margin)})"
        # One-sided: a level of twice that.
        aim, level, what = (
            effect.margin - effect.value,
            min(2 * level, 1.0),
            f"that it stays below {number(effect.margin)}",
        )
    patients = patients_needed(aim, effect.sd, level)
    if not math.isfinite(patients):
        return "no difference at all was measured"
    return f"about {max(math.ceil(patients), effect.n + 1)} patients would be needed to show {what}"


def _together(effects: Sequence[Effect]) -> Verdict:
    counts = Counter(effect.verdict for effect in effects)
    if counts["contradicted"]:
        return "contradicted"
    if counts["supported"] == len(effects):
        return "supported"
    return NOT_TESTABLE if counts["supported"] + counts[NOT_TESTABLE] == len(effects) else "not enough data"


def _column(table: Table, key: str) -> Column:
    """Return the column with the name that its network gives it."""
    return next(column for column in table.columns if column.key == key)
