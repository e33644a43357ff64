"""Reading classifications: the predictions behind Table 3."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from analysis.runs import StandIn, evaluated
from x2c.core.files import is_locked

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "classifications"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classification:
    """One directory of runs/classifications/. `predictions` are there when, and only when, the state is `done`."""

    path: Path
    variant: str
    """Whose generators made the generated volumes."""
    scale: str
    seed: int
    dataset: str
    generated: str
    """`cross_fitted` or `single`."""
    settings: dict[str, Any] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    state: str
    reason: str
    updated: float
    predictions: pd.DataFrame | None = field(repr=False)
    """arm, fold, split, patient, label, score, threshold."""
    provenance: dict[str, Any] = field(repr=False)

    @property
    def cohort(self) -> str:
        """Fingerprint of the patients."""
        return str((self.provenance.get("data") or {}).get("cohort", ""))

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that the numbers depend on."""
        entries = self.provenance.get("stand_ins") or []
        return tuple(StandIn(str(e["part"]), str(e["name"]), str(e.get("instead_of", ""))) for e in entries)


def load_classifications(runs_dir: Path) -> list[Classification]:
    """All classifications below a folder of runs, the most recently updated first.

    Folders that are none are skipped with a warning that names the folder and says why.
    """
    root = Path(runs_dir) / FOLDER
    found: list[Classification] = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            try:
                found.append(_load(folder))
            except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                _log.warning("%s: skipped: %s: %s", folder, type(error).__name__, " ".join(str(error).split())[:160])
    return sorted(found, key=lambda c: (c.updated, c.path.name), reverse=True)


def _load(folder: Path) -> Classification:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    about, status = (json.loads((folder / f"{name}.json").read_text()) for name in ("classification", "status"))
    provenance = folder / "provenance.json"
    state = str(status["state"])
    if state == "running" and not is_locked(folder / ".lock"):
        state = "interrupted"
    predictions = None
    if state == "done":
        import pandas as pd

        predictions = pd.read_parquet(folder / "predictions.parquet")
    return Classification(
        path=folder,
        variant=str(config["variant"]),
        scale=str(config["scale"]),
        seed=int(config["seed"]),
        dataset=str(evaluated(config)["name"]),
        generated=str(about["generated"]),
        settings=about["settings"],
        config=config,
        state=state,
        reason=str(status.get("reason") or status.get("phase") or ""),
        updated=float(status.get("updated") or 0.0),
        predictions=predictions,
        provenance=json.loads(provenance.read_text(encoding="utf-8")) if provenance.exists() else {},
    )
