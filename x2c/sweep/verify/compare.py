"""Comparison of two folders of runs, file by file and bit by bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = re.compile(r"\.lock|(\..*)?status\.json.*|config\.yaml|log\.txt|provenance\.json")
"""Files that contain times, process ids or the folder's own name, and so are not compared."""


@dataclass(frozen=True)
class Comparison:
    """The result for one kind of file."""

    what: str
    files: int
    differences: tuple[str, ...]
    """`path: how it differs`; empty if all are equal."""


def compare(calm: Path, other: Path) -> list[Comparison]:
    """Compare the files of two folders of runs, by kind; both must hold the same files, and no more."""
    ours, theirs = _files(calm), _files(other)
    kinds: dict[str, list[Path]] = {}
    for path in sorted(ours & theirs):
        kinds.setdefault(_kind(path), []).append(path)
    compared = [
        Comparison(kind, len(paths), tuple(_differences(calm, other, paths))) for kind, paths in sorted(kinds.items())
    ]
    missing = [f"{path}: missing" for path in sorted(ours - theirs)]
    left = [f"{path}: left behind" for path in sorted(theirs - ours)]
    return [*compared, Comparison("the list of files", len(ours | theirs), (*missing, *left))]


def _files(folder: Path) -> set[Path]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in files if not IGNORED.fullmatch(path.name) and path.parent.name != ".lease"}


def _kind(path: Path) -> str:
    if path.parts[0].startswith("baseline"):
        return "baselines"
    owner = f"stage {path.parts[1].partition('-')[0]}" if path.parts[0] == "stages" else "run"
    if "adapter" in path.parts:
        return f"adapter of {owner}"
    if path.suffix == ".safetensors":
        return f"weights of {owner}"
    if path.name == "metrics.jsonl":
        return f"losses of {owner}"
    return f"{path.name} of {owner}"


def _differences(calm: Path, other: Path, paths: Iterable[Path]) -> list[str]:
    different = [path for path in paths if (calm / path).read_bytes() != (other / path).read_bytes()]
    return [f"{path}: {_explain(calm / path, other / path)}" for path in different]


def _explain(one: Path, other: Path) -> str:
    """Describe the difference of two files in one line."""
    if one.suffix == ".jsonl":
        return _first_line(one, other)
    if one.suffix not in READERS:
        return "other bytes"
    try:
        return _worst_value(READERS[one.suffix](one), READERS[one.suffix](other))
    except Exception as error:
        return f"cannot be read ({type(error).__name__})"


def _first_line(one: Path, other: Path) -> str:
    ours, theirs = one.read_text(encoding="utf-8").splitlines(), other.read_text(encoding="utf-8").splitlines()
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            return f"from step {json.loads(a)['step']} on"
    return f"{len(theirs)} lines instead of {len(ours)}"


def _tensors(path: Path) -> Mapping[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return load_file(path)


def _columns(path: Path) -> Mapping[str, NDArray[Any]]:
    import pandas as pd

    table = pd.read_parquet(path)
    return {str(name): table[name].to_numpy() for name in table.columns}


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    import numpy as np

    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


READERS: dict[str, Callable[[Path], Mapping[str, NDArray[Any]]]] = {
    ".safetensors": _tensors,
    ".parquet": _columns,
    ".npz": _arrays,
}


def _worst_value(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> str:
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        return "other names or shapes"
    different = [name for name in ours if ours[name].tolist() != theirs[name].tolist()]
    if not different:
        return "the same values in other bytes"
    gaps = [
        abs(ours[name].astype(float) - theirs[name].astype(float)).max()
        for name in different
        if ours[name].dtype.kind in "biuf"
    ]
    return f"{len(different)} of {len(ours)} arrays differ{f', by {max(gaps):.1e} at most' if gaps else ''}"
