"""Reading run directories: what has been run, how far it got, and the scores of what is done."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analysis.read.derived_id import MADE_FROM, NOT_RECIPE, why_changed
from x2c.core.file_lease import seems_held
from x2c.core.run_lookup import RUN_ID

if TYPE_CHECKING:
    import pandas as pd

State = Literal["done", "running", "interrupted", "failed", "pruned", "unreadable"]
"""`unreadable` is a run with a file that cannot be used, whatever its status says."""
BASELINES = {"baseline_mean": None, "baseline_nearest": "encoder", "baseline_reconstruction": "autoencoder"}
"""Rows made without the model under test, each with the part that it depends on besides the data."""
_NO_RUNS = ("classifications", "logs", "stages")
_log = logging.getLogger(__name__)


def evaluated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data set whose test patients a resolved config is scored on: the last stage's."""
    stages = config["stages"]
    slot: dict[str, Any] = config[stages[stages["order"][-1]]["data"]]
    return slot


def window_hu(config: Mapping[str, Any]) -> tuple[float, float]:
    """Return the HU window that a resolved config is scored in."""
    window = evaluated(config)["window"]
    return float(window["low_hu"]), float(window["high_hu"])


def voxels(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (D, H, W) of a resolved config's volumes."""
    size, reduction = config["resolution"]["size"], int(config["resolution"]["reduction"])
    height, width, depth = (int(axis) // reduction for axis in str(size).split("x"))
    return depth, height, width


def steps_text(config: Mapping[str, Any]) -> str:
    """Return a resolved config's stages with their optimizer steps, e.g. `rspect 500 → ctpa 250 → xray 300`."""
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
    """Return the name of a part of a run that a stand-in may replace, for pages."""
    return _PART_NAMES.get(part, part)


@dataclass(frozen=True)
class StandIn:
    """A small network in place of a pretrained one: the part, the network, and the network it replaces."""

    part: str
    name: str
    instead_of: str

    @property
    def text(self) -> str:
        """Return the description in words."""
        return f"{part_name(self.part)}: {self.name}" + (f" instead of {self.instead_of}" if self.instead_of else "")


def in_order(stand_ins: Iterable[StandIn]) -> list[StandIn]:
    """Return each stand-in once, the model's parts before the metrics' networks."""
    return sorted(set(stand_ins), key=lambda s: (s.part in METRIC_PARTS, s.part, s.name, s.instead_of))


@dataclass(frozen=True)
class Run:
    """One run directory. `scores`, `set_scores` are there when, and only when, the state is `done`.

    If it is `unreadable`, variant, scale and seed are from the folder's name, `reason` is `FILE: reason`, and
    data set and provenance are missing; so is the config if that is the file.
    """

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
    """Number of processes that started or resumed it: above one, it was interrupted or retried."""
    scores: pd.DataFrame | None = field(repr=False)
    set_scores: dict[str, Any] | None = field(repr=False)
    provenance: dict[str, Any] | None = field(repr=False)
    told_cohort: str | None = field(default=None, repr=False)
    """Cohort of an unreadable run whose provenance can be read; else None."""

    @property
    def cohort(self) -> str | None:
        """Fingerprint of the patients, whatever the sample size; None before the run has written its provenance."""
        return ((self.provenance or {}).get("data") or {}).get("cohort") or self.told_cohort

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that this run's numbers depend on."""
        entries = (self.provenance or {}).get("stand_ins") or []
        return tuple(StandIn(str(e["part"]), str(e["name"]), str(e.get("instead_of", ""))) for e in entries)

    @property
    def section(self) -> str | None:
        """The table section that the variant's file names."""
        return self._row.get("section")

    @property
    def note(self) -> str:
        """The variant's remark on what its row lacks compared with the paper's."""
        return self._row.get("note") or ""

    @property
    def label(self) -> str:
        """The variant's name in tables and figures."""
        return self._row.get("label") or self.variant

    @property
    def _row(self) -> dict[str, Any]:
        return self.config.get("table2") or {}

    @property
    def recipe(self) -> str:
        """Everything except the seed that can change a result, as comparable text."""
        config = copy.deepcopy(self.config)
        for *parents, key in NOT_RECIPE:
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
    """Name of the data set; empty if no run of the group can be read."""
    cohort: str | None
    runs: tuple[Run, ...] = field(repr=False)
    """Runs that can be read."""
    unreadable: tuple[Run, ...] = field(default=(), repr=False)
    """Unreadable runs of the group, by id: rows without a number."""

    @property
    def updated(self) -> float:
        """Unix time of the latest report among the runs; if none can be read, of the latest change of a file."""
        return max((run.updated for run in self.runs or self.unreadable), default=0.0)

    @property
    def name(self) -> str:
        """Name of the group in lines and footnotes."""
        data = self.dataset or "unknown"
        return f"scale {self.scale}, data {data}" + (f" ({self.cohort[:12]})" if self.cohort else "")


def load_runs(runs_dir: str | Path) -> list[Run]:
    """Read every run directory in `runs_dir`, sorted by id; no such folder gives no runs.

    A run with a file that cannot be used is included: its state is `unreadable`, and its reason names the file and the
    cause. Folders that are not runs by their name, or not yet, are skipped with a warning that names folder and cause.
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
    """Return runs by scale and patients, the most recently updated group first; last, groups without a readable run.

    A run that has not yet recorded its cohort joins the latest group of its scale with the same data options. One that
    is unreadable joins every group of its scale and cohort, or the latest one of its scale if its cohort is unknown;
    if there is none, a group without readable runs.
    """
    known = list(runs)
    groups: list[list[Run]] = []
    for run in sorted((run for run in known if run.state != "unreadable"), key=lambda run: run.cohort is None):
        alike = [members for members in groups if any(_same_patients(run, member) for member in members)]
        if alike:
            max(alike, key=lambda members: max(member.updated for member in members)).append(run)
        else:
            groups.append([run])
    made = [Group(members[0].scale, members[0].dataset, members[0].cohort, tuple(members)) for members in groups]
    made.sort(key=lambda group: group.updated, reverse=True)
    for run in sorted((run for run in known if run.state == "unreadable"), key=lambda run: run.cohort is None):
        fitting = [i for i, group in enumerate(made) if group.scale == run.scale and run.cohort in (None, group.cohort)]
        if not fitting:
            fitting = [len(made)]
            made.append(Group(run.scale, "", run.cohort, ()))
        for place in fitting if run.cohort is not None else fitting[:1]:
            members = sorted((*made[place].unreadable, run), key=lambda one: one.id)
            made[place] = replace(made[place], unreadable=tuple(members))
    return sorted(made, key=lambda group: (bool(group.runs), group.updated), reverse=True)


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
    # Imported here: it is slow, and help does not need it.
    from analysis.read.files import UnreadableError, short

    named = RUN_ID.fullmatch(folder.name)
    if named is None:
        raise _NotARunError("its name is no run id, <variant>-<scale>-s<seed>-<12 hex>")
    try:
        return _readable(folder)
    except _NotARunError:
        raise
    except UnreadableError as error:
        reason = str(error)
    except Exception as error:
        # Unforeseen content of files: one bad file must only cost one row.
        reason = short(f"{type(error).__name__}: {error}")
    return _unreadable(folder, named, reason)


def _readable(folder: Path) -> Run:
    """Return the run of a folder. Raises UnreadableError, and _NotARunError for a run that has not begun."""
    from analysis.read import files

    alive = seems_held(folder / ".lease")
    if not (folder / files.STATUS).exists():
        if any((folder / name).exists() for name in (files.SCORES, files.SET_SCORES)):
            raise files.UnreadableError(files.STATUS, "absent, though the run was scored")
        raise _NotARunError(f"no {files.STATUS} in it, it has not begun")
    # Read after the lease: a run that ends between the two reads then counts as ended, not as interrupted.
    status = files.read_status(folder)
    if alive and status.state == "running" and not (folder / files.CONFIG).exists():
        raise _NotARunError(f"no {files.CONFIG} in it yet, it has just begun")
    done, state = status.state == "done", status.state
    if state in ("running", "interrupted"):
        state = "running" if alive else "interrupted"
    config = files.read_config(folder)
    _refuse_renamed(folder.name, config)
    there = done or (folder / files.PROVENANCE).exists()
    provenance = files.read_provenance(folder) if there else None
    if provenance is not None and (done or MADE_FROM in provenance):
        _refuse_changed(folder.name, config, provenance)
    scores = files.read_scores(folder) if done else None
    set_scores = files.read_set_scores(folder) if done else None
    reason = files.one_line(" ".join((status.reason or "").split()))
    return Run(
        path=folder,
        id=folder.name,
        variant=config["variant"],
        scale=config["scale"],
        seed=config["seed"],
        dataset=files.one_line(evaluated(config)["name"]),
        config=files.one_line(config),
        state=state,
        reason=reason or None,
        progress=min((status.step or 0) / status.steps, 1.0) if status.steps else None,
        phase=files.one_line(status.phase or ""),
        updated=float(status.updated or (folder / files.STATUS).stat().st_mtime),
        starts=status.starts or 1,
        scores=scores,
        set_scores=files.one_line(set_scores),
        provenance=files.one_line(provenance),
    )


def _unreadable(folder: Path, named: re.Match[str], reason: str) -> Run:
    """Return the run of a folder with this name and a file that cannot be used."""
    from analysis.read import files

    config: dict[str, Any] = {}
    cohort = None
    with contextlib.suppress(Exception):
        cohort = files.one_line(files.read_provenance(folder)["data"]["cohort"])
    if not reason.startswith(files.CONFIG):
        with contextlib.suppress(Exception):
            config = files.one_line(files.read_config(folder))
    return Run(
        path=folder,
        id=folder.name,
        variant=named["variant"],
        scale=named["scale"],
        seed=int(named["seed"]),
        dataset="",
        config=config,
        state="unreadable",
        reason=reason,
        progress=None,
        phase="",
        updated=_last_change(folder),
        starts=1,
        scores=None,
        set_scores=None,
        provenance=None,
        told_cohort=cohort,
    )


def _last_change(folder: Path) -> float:
    times: list[float] = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                times.append(path.lstat().st_mtime)
    return max(times, default=0.0)


def _refuse_renamed(name: str, config: Mapping[str, Any]) -> None:
    """Raise UnreadableError if the config is another run's: a copied folder would be counted twice."""
    from analysis.read.files import CONFIG, UnreadableError

    begins = f"{config['variant']}-{config['scale']}-s{config['seed']}-"
    if not re.fullmatch(re.escape(begins) + "[0-9a-f]{12}", name):
        raise UnreadableError(CONFIG, f"it is of a run {begins}<12 hex>, which is not the folder's name")


def _refuse_changed(name: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Raise UnreadableError if config or provenance differ from what the run's id was made from."""
    from analysis.read.files import CONFIG, UnreadableError

    if why := why_changed(name, provenance, config=config):
        file, _, reason = why.partition(": ")
        raise UnreadableError(file, reason)
    # The id of a baseline holds the window beside the few fields of the config that it depends on.
    window = provenance[MADE_FROM].get("window")
    if window is not None and tuple(window) != window_hu(config):
        low, high = window_hu(config)
        made = "{:g}..{:g}".format(*window)
        raise UnreadableError(CONFIG, f"HU window is {low:g}..{high:g}, where the run's id was made with {made}")
