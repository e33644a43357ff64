"""Reading run directories: what has been run, how far it got, and the scores of what is done."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from x2c.core.files import is_locked

if TYPE_CHECKING:
    import pandas as pd

State = Literal["done", "running", "interrupted", "failed", "pruned"]
# Fields that cannot change a result, as run ids know them; seeds of one recipe are pooled.
_NOT_RECIPE = (
    ("seed",),
    ("variant",),
    ("table2",),
    ("compute",),
    ("denoiser", "gradient_checkpointing"),
    ("encoder", "instead_of"),
    ("loss", "name"),
    ("training", "validate_every"),
    ("training", "checkpoint_every"),
    ("evaluation", "batch_size"),
    ("dataset", "folder"),
    ("pretraining", "folder"),
    ("finetuning", "folder"),
)
BASELINES = {"baseline_mean": None, "baseline_nearest": "encoder", "baseline_reconstruction": "autoencoder"}
"""The rows made without the model under test, each with the part that it depends on besides the data."""
_NO_RUNS = ("classifications", "logs", "stages")
_log = logging.getLogger(__name__)


def evaluated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The data set whose test patients a resolved config is scored on: the last stage's."""
    stages = config["stages"]
    slot: dict[str, Any] = config[stages[stages["order"][-1]]["data"]]
    return slot


def window_hu(config: Mapping[str, Any]) -> tuple[float, float]:
    """The HU window that a resolved config is scored in."""
    window = evaluated(config)["window"]
    return float(window["low_hu"]), float(window["high_hu"])


def voxels(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """(D, H, W) of a resolved config's volumes."""
    size, reduction = config["resolution"]["size"], int(config["resolution"]["reduction"])
    height, width, depth = (int(axis) // reduction for axis in str(size).split("x"))
    return depth, height, width


def steps_text(config: Mapping[str, Any]) -> str:
    """A resolved config's stages with their optimizer steps, e.g. `rspect 500 → ctpa 250 → xray 300`."""
    stages = config["stages"]
    return " → ".join(f"{name} {stages[name]['steps']}" for name in stages["order"])


METRIC_PARTS = ("perceptual", "features")
"""Networks that measure; all other parts are the model's."""
_PART_NAMES = {
    "features": "Fréchet and paired feature distances",
    "perceptual": "the metric LPIPS",
    "loss.lpips": "the loss LPIPS",
    "xray_classifier": "the classifier of X-rays",
}


def part_name(part: str) -> str:
    """What pages call a part of a run that a stand-in may take."""
    return _PART_NAMES.get(part, part)


@dataclass(frozen=True)
class StandIn:
    """A small network in the place of a pretrained one: which part, which network, instead of what."""

    part: str
    name: str
    instead_of: str

    @property
    def text(self) -> str:
        """All of it in words."""
        return f"{part_name(self.part)}: {self.name}" + (f" instead of {self.instead_of}" if self.instead_of else "")


def in_order(stand_ins: Iterable[StandIn]) -> list[StandIn]:
    """Each once, the model's parts before the metrics' networks."""
    return sorted(set(stand_ins), key=lambda s: (s.part in METRIC_PARTS, s.part, s.name, s.instead_of))


@dataclass(frozen=True)
class Run:
    """One run directory. `scores`, `set_scores` are there when, and only when, the state is `done`."""

    path: Path
    id: str
    variant: str
    scale: str
    seed: int
    dataset: str
    """The data set that was scored, which need not be the one trained on first."""
    config: dict[str, Any] = field(repr=False)
    state: State
    reason: str | None
    progress: float | None
    """Share of the phase that is done, 0 to 1."""
    phase: str
    updated: float
    """Unix time of the last report."""
    starts: int
    """How many processes have begun or gone on with it: more than one was interrupted or tried again."""
    scores: pd.DataFrame | None = field(repr=False)
    set_scores: dict[str, Any] | None = field(repr=False)
    provenance: dict[str, Any] | None = field(repr=False)

    @property
    def cohort(self) -> str | None:
        """Fingerprint of the patients, whatever the sample size; None before the run has written its provenance."""
        return ((self.provenance or {}).get("data") or {}).get("cohort")

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that this run's numbers depend on."""
        entries = (self.provenance or {}).get("stand_ins") or []
        return tuple(StandIn(str(e["part"]), str(e["name"]), str(e.get("instead_of", ""))) for e in entries)

    @property
    def section(self) -> str | None:
        """The table section the variant asks for."""
        return (self.config.get("table2") or {}).get("section")

    @property
    def note(self) -> str:
        """What the variant says its row lacks beside the paper's."""
        return str((self.config.get("table2") or {}).get("note") or "")

    @property
    def label(self) -> str:
        """The variant's name in tables and figures."""
        return (self.config.get("table2") or {}).get("label") or self.variant

    @property
    def recipe(self) -> str:
        """Everything that can change a result but the seed, as comparable text."""
        config = copy.deepcopy(self.config)
        for *parents, key in _NOT_RECIPE:
            inner: Any = config
            for parent in parents:
                inner = inner.get(parent) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                inner.pop(key, None)
        return json.dumps(config, sort_keys=True, default=str)


@dataclass(frozen=True)
class Group:
    """Runs that may stand in one table: same scale, same patients."""

    scale: str
    dataset: str
    cohort: str | None
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def updated(self) -> float:
        """Unix time of the latest report among the runs."""
        return max(run.updated for run in self.runs)

    @property
    def name(self) -> str:
        """How lines and footnotes call the group."""
        return f"scale {self.scale}, data {self.dataset}" + (f" ({self.cohort[:12]})" if self.cohort else "")

    def chosen(self) -> dict[str, tuple[Run, ...]]:
        """For each variant the runs that a table pools: the seeds of one recipe. Baselines are no variants.

        The recipe is that of most finished seeds, of several the latest; the latest of all where none is finished.
        """
        chosen: dict[str, tuple[Run, ...]] = {}
        for variant in dict.fromkeys(run.variant for run in self.runs if run.variant not in BASELINES):
            runs = [run for run in self.runs if run.variant == variant]
            seeds = Counter(recipe for recipe, _ in {(run.recipe, run.seed) for run in runs if run.state == "done"})
            best = max(runs, key=lambda run: (seeds[run.recipe], run.updated)).recipe
            same = {run.seed: run for run in sorted(runs, key=lambda r: r.updated) if run.recipe == best}
            chosen[variant] = tuple(same[seed] for seed in sorted(same))
        return chosen


def load_runs(runs_dir: str | Path) -> list[Run]:
    """Read every run directory in `runs_dir`, sorted by id; no such folder gives no runs.

    Folders that are no run, or not yet one, are skipped with a warning that names the folder and says why.
    """
    root = Path(runs_dir)
    inside = sorted(root.iterdir()) if root.is_dir() else []
    folders = [p for p in inside if p.is_dir() and p.name not in _NO_RUNS and not p.name.startswith(".")]
    runs: list[Run] = []
    for folder in folders:
        try:
            runs.append(_load(folder))
        except _NotARunError as error:
            _log.warning("%s: skipped: %s", folder, error)
    return runs


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Runs by scale and patients, the most recently updated group first.

    A run that has not yet told its cohort joins the latest group of its scale whose data set has the same options.
    """
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.cohort is None):
        alike = [members for members in groups if any(_same_patients(run, member) for member in members)]
        if alike:
            max(alike, key=lambda members: max(member.updated for member in members)).append(run)
        else:
            groups.append([run])
    made = [Group(members[0].scale, members[0].dataset, members[0].cohort, tuple(members)) for members in groups]
    return sorted(made, key=lambda group: group.updated, reverse=True)


def _same_patients(run: Run, other: Run) -> bool:
    if (run.scale, run.dataset) != (other.scale, other.dataset):
        return False
    if run.cohort is not None:
        return run.cohort == other.cohort
    slots = (evaluated(run.config), evaluated(other.config))
    return len({json.dumps(slot | {"window": None}, sort_keys=True, default=str) for slot in slots}) == 1


class _NotARunError(Exception):
    pass


def _load(folder: Path) -> Run:
    config = _read_config(folder / "config.yaml")
    try:
        variant, scale, seed = str(config["variant"]), str(config["scale"]), int(config["seed"])
        dataset = str(evaluated(config)["name"])
        # Asked here, so that whoever reads runs later need not expect them to lack it.
        window_hu(config), voxels(config), steps_text(config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _NotARunError(
            "config.yaml lacks variant, scale, seed, resolution, or stages with the last one's data set "
            f"({type(error).__name__}: {error})"
        ) from error
    # A copied or renamed folder would otherwise be counted twice.
    if not re.fullmatch(re.escape(f"{variant}-{scale}-s{seed}-") + "[0-9a-f]{12}", folder.name):
        raise _NotARunError(
            f"the folder's name is not the run id {variant}-{scale}-s{seed}-<12 hex> of its config.yaml"
        )
    status, alive = _read_status(folder)
    state: State = status["state"]
    reason = status.get("reason")
    provenance = _read_json(folder / "provenance.json")
    scores = set_scores = None
    if state == "running" and not alive:
        state = "interrupted"
    if state == "done":
        try:
            scores, set_scores = _read_scores(folder), _read_json(folder / "set_scores.json")
        except (OSError, ValueError, _NotARunError) as error:
            state, reason = (
                "failed",
                f"done, but its scores cannot be read: {' '.join(str(error).split())[:160]}",
            )
    step, steps = status.get("step") or 0, status.get("steps") or 0
    return Run(
        path=folder,
        id=folder.name,
        variant=variant,
        scale=scale,
        seed=seed,
        dataset=dataset,
        config=config,
        state=state,
        reason=" ".join(str(reason).split()) if reason else None,
        progress=min(step / steps, 1.0) if steps else None,
        phase=str(status.get("phase") or ""),
        updated=float(status.get("updated") or (folder / "status.json").stat().st_mtime),
        starts=int(status.get("starts") or 1),
        scores=scores,
        set_scores=set_scores,
        provenance=provenance if isinstance(provenance, dict) else None,
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _NotARunError("no config.yaml in it")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _NotARunError(f"config.yaml cannot be read ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(config, dict):
        raise _NotARunError("config.yaml is no mapping")
    return config


def _read_status(folder: Path) -> tuple[dict[str, Any], bool]:
    alive = is_locked(folder / ".lock")
    # Read after the lock was looked at: a run that ended in between then reads as ended, not as interrupted.
    status = _read_json(folder / "status.json")
    if status is None:
        raise _NotARunError("no status.json in it, it has not begun")
    if not isinstance(status, dict) or status.get("state") not in ("running", "done", "failed", "pruned"):
        raise _NotARunError("status.json names no state (running, done, failed, pruned)")
    return status, alive


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _NotARunError(f"{path.name} cannot be read ({error})") from error


def _read_scores(folder: Path) -> pd.DataFrame:
    # Imported here: whoever only asks for help or states need not wait for it.
    import pandas as pd

    scores = pd.read_parquet(folder / "scores.parquet")
    if "patient" not in scores.columns or scores.empty:
        raise ValueError("scores.parquet has no patients")
    if scores["patient"].duplicated().any():
        raise ValueError("scores.parquet has a patient twice")
    return scores
