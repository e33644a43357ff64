"""Reading of classifications: the predictions behind Table 3."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read.derived_id import MADE_FROM, at, why_changed
from analysis.read.runs import StandIn, evaluated
from x2c.core.file_lease import seems_held

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "classifications"
UNREADABLE = "unreadable"
"""State of a classification with a file that cannot be read, or that does not match its id."""
_NAME = re.compile(
    r"(?P<variant>[A-Za-z0-9_.+-]+)-(?P<scale>[A-Za-z0-9_.+]+)-s(?P<seed>[0-9]{1,9})-(?P<generated>cross_fitted|single)-[0-9a-f]{12}"
)
ABOUT, PREDICTIONS = "classification.json", "predictions.parquet"
_TEXTS, _NUMBERS = ("arm", "split", "patient"), ("fold", "label", "score", "threshold")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classification:
    """One directory of runs/classifications/. `predictions` are there when, and only when, the state is `done`."""

    path: Path
    variant: str
    """Variant whose generators made the generated volumes."""
    scale: str
    seed: int
    dataset: str
    """Name of the data set; empty if config.yaml is absent or cannot be read."""
    generated: str
    """`cross_fitted` or `single`."""
    settings: dict[str, Any] = field(repr=False)
    """Settings of the classifiers; empty if unknown."""
    config: dict[str, Any] = field(repr=False)
    """Config of the generators; empty if unknown."""
    state: str
    """done, running, interrupted, failed, pruned or unreadable."""
    reason: str
    updated: float
    predictions: pd.DataFrame | None = field(repr=False)
    """Table with columns arm, fold, split, patient, label, score, threshold."""
    provenance: dict[str, Any] = field(repr=False)

    @property
    def cohort(self) -> str:
        """Fingerprint of the patients; empty if unknown."""
        return str((self.provenance.get("data") or {}).get("cohort", ""))

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """The stand-ins that the numbers depend on."""
        entries = self.provenance.get("stand_ins") or []
        return tuple(StandIn(str(e["part"]), str(e["name"]), str(e.get("instead_of") or "")) for e in entries)


def load_classifications(runs_dir: Path) -> list[Classification]:
    """All classifications below a folder of runs, the most recently updated first.

    One with a file that cannot be read is included, in the state `unreadable` with `FILE: reason`. Folders that are not
    classifications are skipped. For both a warning names the folder and the reason.
    """
    root = Path(runs_dir) / FOLDER
    found: list[Classification] = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        name = _NAME.fullmatch(folder.name)
        if name is None:
            _log.warning("%s: skipped: its name is not <variant>-<scale>-s<seed>-<generated>-<12 hex>", folder.name)
        elif not any((folder / file).exists() for file in ("config.yaml", "status.json")):
            _log.warning("%s: skipped: no config.yaml and no status.json in it", folder.name)
        else:
            found.append(_load(folder, name))
    return sorted(found, key=lambda c: (c.updated, c.path.name), reverse=True)


def tested(of: Classification, arm: str) -> pd.DataFrame:
    """Return an arm's test patients by fold and patient; empty for a classification that is not done."""
    import pandas as pd

    if of.predictions is None:
        return pd.DataFrame()
    rows = of.predictions[(of.predictions["arm"] == arm) & (of.predictions["split"] == "test")]
    return rows.sort_values(["fold", "patient"], kind="stable").reset_index(drop=True)


def of_others(table: pd.DataFrame, reference: pd.DataFrame, whose: str) -> str:
    """Explain why two tables are not of the same patients, folds and labels; empty if they are."""
    ours, theirs = (one.drop_duplicates("patient").set_index("patient") for one in (table, reference))
    shared = ours.index.intersection(theirs.index)
    if len(table) != len(reference) or len(shared) != len(table):
        return f"{len(table)} test patients of whom {len(shared)} are among {whose} {len(reference)}"
    for key, words in (("fold", "in another fold than"), ("label", "of another label than")):
        other = int((ours.loc[shared, key].astype(float) != theirs.loc[shared, key].astype(float)).sum())
        if other:
            return f"{other} of {len(table)} test patients {words} among {whose}"
    return ""


def _load(folder: Path, name: re.Match[str]) -> Classification:
    from analysis.read.files import UnreadableError

    read: dict[str, Any] = {
        **name.groupdict(), "seed": int(name["seed"]), "dataset": "", "settings": {}, "config": {}, "reason": "",
        "updated": 0.0, "predictions": None, "provenance": {},
    }  # fmt: skip
    try:
        _fill(read, folder)
    except UnreadableError as error:
        # Files that were changed are no source of settings.
        read |= {"state": UNREADABLE, "reason": str(error), "config": {}, "settings": {}}
        _log.warning("%s: unreadable: %s", folder.name, error)
    return Classification(path=folder, **read)


def _fill(read: dict[str, Any], folder: Path) -> None:
    """Add the files' content, one after the other. Raises UnreadableError at the first that cannot be used."""
    # Imported here: it is slow, and help does not need it.
    from analysis.read import files

    alive = seems_held(folder / ".lease")
    # Read after the lease: one that ends between the two reads then counts as ended, not as interrupted.
    status = files.read_status(folder)
    ended = status.state not in ("running", "interrupted")
    read["state"] = status.state if ended else "running" if alive else "interrupted"
    read["reason"] = files.short(status.reason or status.phase or "", 1000)
    read["updated"] = float(status.updated or 0.0)
    done = status.state == "done"
    if done and not (folder / files.PROVENANCE).exists():
        raise files.UnreadableError(files.PROVENANCE, "absent: stand-ins and patients are not known")
    # Written in this order: before the state is done they may be absent.
    begun = (folder / files.PROVENANCE).exists()
    if begun or (folder / files.CONFIG).exists():
        with _reading(files.CONFIG):
            config = files.one_line(files.read_config(folder))
            _check_name(config, read, "variant", "scale", "seed")
            read |= {"config": config, "dataset": evaluated(config)["name"]}
    if begun or (folder / ABOUT).exists():
        with _reading(ABOUT):
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            _expect(isinstance(about, dict), "the file", "a mapping", about)
            _check_name(about, read, "generated")
            read["settings"] = files.one_line(_checked_settings(about.get("settings")))
    if begun:
        with _reading(files.PROVENANCE):
            provenance = files.one_line(files.read_provenance(folder))
            if why := why_changed(folder.name, provenance, config=read["config"], settings=read["settings"]):
                file, _, reason = why.partition(": ")
                raise files.UnreadableError(file, reason)
            made_from, fingerprint = provenance[MADE_FROM], provenance["data"].get("fingerprint")
            for entry, value in (("generated", read["generated"]), ("data", fingerprint)):
                _expect(value == made_from.get(entry), entry, f"{made_from.get(entry)}, as in {MADE_FROM}", value)
            read["provenance"] = provenance
    if done:
        with _reading(PREDICTIONS):
            read["predictions"] = _predictions(folder / PREDICTIONS)


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """Turn any error of reading a file into a line that begins with the file's name."""
    from analysis.read.files import UnreadableError

    try:
        yield
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError(file, "absent") from None
    except RecursionError:
        raise UnreadableError(file, "nested too deep") from None
    except ValueError as error:
        raise UnreadableError(file, str(error)) from None
    except Exception as error:  # Parsers raise all kinds of errors for files that were cut or overwritten.
        # An operating system's message names the folder, which no page shows.
        says = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnreadableError(file, f"{type(error).__name__}: {says}") from None


def _expect(holds: bool, entry: str, expected: str, got: object) -> None:
    if not holds:
        text = repr(got)
        raise ValueError(f"{entry}: expected {expected}; got {text if len(text) <= 60 else text[:59] + '…'}")


def _check_name(tree: Mapping[str, Any], read: Mapping[str, Any], *entries: str) -> None:
    """Check a file against the folder's name: a copied or renamed folder would be counted as another."""
    for entry in entries:
        _expect(tree.get(entry) == read[entry], entry, f"{read[entry]}, as the folder's name has it", tree.get(entry))


def _checked_settings(settings: Any) -> dict[str, Any]:
    """Return the classifiers' settings, if those that Table 3 shows are present."""
    _expect(isinstance(settings, dict), "settings", "a mapping", settings)
    made: dict[str, Any] = settings
    for path in ("folds", "volumes.steps", "xrays.steps"):
        value = at(made, path)
        _expect(
            isinstance(value, int) and not isinstance(value, bool) and value > 0, f"settings.{path}", "a count", value
        )
    return made


def _predictions(file: Path) -> pd.DataFrame:
    """Return the predictions, in columns of the right kind. Table 3 checks the values."""
    import numpy as np
    import pandas as pd

    with file.open("rb") as stream:
        table = pd.read_parquet(stream, page_checksum_verification=True)
    for name in (*_TEXTS, *_NUMBERS):
        times = list(table.columns).count(name)
        if times != 1:
            raise ValueError(f"column {name} is {'absent' if not times else f'there {times} times'}")
    if table.empty:
        raise ValueError("no rows")
    for name in _TEXTS:
        kind = pd.api.types.infer_dtype(table[name], skipna=False)
        if table[name].isna().any() or kind not in ("string", *(["integer"] if name == "patient" else [])):
            raise ValueError(f"column {name}: expected text in every row; got {kind}")
    for name in _NUMBERS:
        column = table[name]
        kinds: tuple[Callable[[Any], bool], ...] = (pd.api.types.is_integer_dtype, pd.api.types.is_float_dtype)
        if name == "label":
            kinds = (*kinds, pd.api.types.is_bool_dtype)
        if not any(is_kind(column) for is_kind in kinds):
            raise ValueError(f"column {name}: expected numbers; got {column.dtype}")
        if pd.api.types.is_extension_array_dtype(column.dtype):
            table[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = table[name].to_numpy(np.float64)
        # Bool and float hold the same folds and labels as whole numbers do.
        if name in ("fold", "label") and ((numbers == np.round(numbers)) & (np.abs(numbers) < 2**31)).all():
            table[name] = numbers.astype(np.int64)
    return table
