"""The value by which a sweep compares finished runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from x2c.core.checked import UnreadableError, got, read_tree
from x2c.core.run import RunDirectory

SCORES, SET_SCORES, LOG = "scores.parquet", "set_scores.json", "metrics.jsonl"


def read_value(run: Path, metric: str) -> float:
    """Return the metric of a finished run: its mean over test patients, or its value for the set of them.

    Raises UnreadableError if its file is absent or cannot be used, or has no finite number for it.
    """
    file, value = SCORES, _mean(run, metric)
    if value is None:
        file, value = SET_SCORES, _of_set(run, metric)
    return _finite(file, metric, value)


def last_value(run: RunDirectory, metric: str) -> float:
    """Return the metric at a run's last validation. Raises UnreadableError as `read_value` does."""
    return _finite(LOG, metric, [None, *(value for _, value in logged(run, metric))][-1])


def logged(run: RunDirectory, metric: str) -> list[tuple[int, float]]:
    """Return steps and values of the metric in a run's log. Raises UnreadableError if it cannot be used."""
    try:
        return run.logged(metric)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UnreadableError(LOG, f"expected a JSON object in each line; got something else ({error})") from None


def _finite(file: str, metric: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnreadableError(file, f"{metric}: expected a finite number; got {got(value)}")
    return float(value)


def _mean(run: Path, metric: str) -> float | None:
    # Imported here: it takes seconds, and a worker has loaded it anyway.
    import pandas as pd
    import pyarrow as pa

    if not (run / SCORES).exists():
        return None
    try:
        scores = pd.read_parquet(run / SCORES)
        return float(scores[metric].to_numpy().mean()) if metric in scores.columns else None
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UnreadableError(SCORES, f"expected scores; got something else ({error})") from None


def _of_set(run: Path, metric: str) -> Any:
    entry = read_tree(run / SET_SCORES, "JSON", json.loads).get(metric)
    return entry.get("value") if isinstance(entry, dict) else entry
