"""The baselines of a table: one row for each setting; the label of the usual setting does not mention it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.read.runs import BASELINES, Run, window_hu

LABELS = {
    "baseline_mean": "Mean training volume",
    "baseline_nearest": "Nearest training X-ray",
    "baseline_reconstruction": "Autoencoder ceiling",
}
Setting = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class BaselineRow:
    """A baseline in one setting; the label names its differences from the usual one. Run None: there is none yet."""

    variant: str
    label: str
    run: Run | None


def baseline_rows(baselines: Iterable[Run], variants: Sequence[Run]) -> list[BaselineRow]:
    """A row for each baseline in the usual setting, and after it one for each other setting that it was made in.

    The usual setting is that of most of `variants`; among equally many, of the first.
    """
    made: dict[str, dict[str, Run]] = {name: {} for name in BASELINES}
    for run in sorted(baselines, key=lambda run: (run.state == "done", run.updated)):
        made[run.variant][_key(_setting(run, BASELINES[run.variant]))] = run
    rows: list[BaselineRow] = []
    for name, part in BASELINES.items():
        settings = [_setting(run, part) for run in variants or made[name].values()]
        usual = Counter(map(_key, settings)).most_common(1)[0][0] if settings else ""
        rows.append(BaselineRow(name, LABELS[name], made[name].pop(usual, None)))
        others = list(made[name].values())
        labels = _labels([_setting(run, part) for run in others], json.loads(usual or "{}"))
        named = sorted(zip(labels, others, strict=True), key=lambda pair: pair[0])
        rows += [BaselineRow(name, f"{LABELS[name]} ({label})", run) for label, run in named]
    return rows


def made_for(baseline: Run, variants: Iterable[Run]) -> bool:
    """Whether a baseline was made in a setting that one of the variants has as well."""
    part = BASELINES[baseline.variant]
    return _key(_setting(baseline, part)) in {_key(_setting(run, part)) for run in variants}


def _setting(run: Run, part: str | None) -> Setting:
    """Return the setting that a run shares with comparable baselines: entries with a name and options."""
    resolution, (low, high) = run.config["resolution"], window_hu(run.config)
    setting = {
        "resolution": {"name": str(resolution["size"]).replace("x", " x "), "reduction": resolution["reduction"]},
        "window": {"name": f"HU window {low:g}..{high:g}".replace("-", "−")},
    }
    return setting | ({part: run.config.get(part, {})} if part else {})


def _key(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True, default=str)


def _labels(settings: Sequence[Setting], usual: Setting) -> list[str]:
    """Return what each setting has that the usual one lacks; in full if the short form would be ambiguous."""
    short = [_difference(setting, usual, in_full=False) for setting in settings]
    if len(set(short)) == len(short):
        return short
    return [_difference(setting, usual, in_full=True) for setting in settings]


def _difference(setting: Setting, usual: Setting, in_full: bool) -> str:
    texts = [_entry(entry, usual.get(slot, {}), in_full) for slot, entry in setting.items() if entry != usual.get(slot)]
    return ", ".join(texts)


def _entry(entry: Mapping[str, Any], usual: Mapping[str, Any], in_full: bool) -> str:
    name, options = str(entry.get("name")), {k: v for k, v in entry.items() if k != "name" and v != usual.get(k)}
    if "instead_of" in options:
        name += f" for {options.pop('instead_of')}"
    told = options if in_full or name == usual.get("name") else {}
    return ", ".join([name, *(f"{option} {value}" for option, value in told.items())])
