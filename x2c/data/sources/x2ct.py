"""X2CT-GAN's HDF5 set of LIDC-IDRI, LIDC-HDF5-256: the field's benchmark of reconstruction from two projections."""

from __future__ import annotations

import re
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.sources.candidate import Candidate
from x2c.data.sources.listing import files_under

FILE = "ct_xray_data.h5"
LISTS = {"train": "train.txt", "test": "test.txt"}
"""The authors' lists, by split."""


@SOURCES.register("x2ct")
def x2ct(root: Path) -> list[Candidate]:
    """Pairs from ROOT/…/ID/ct_xray_data.h5 or ID_ct_xray_data.h5, each a CT and its frontal projection.

    Splits are those of train.txt and test.txt, an ID a line, which lie in ROOT, in ROOT/data or beside ROOT (also in a
    folder `data` there); without them nothing is prescribed. An ID is PATIENT.DATE.NUMBER. The authors split by CT:
    where a patient has one in either list, the one in train.txt is left out, so that the test set stays as published.
    There is no label of embolism. Raises UserError where there is one list only.
    """
    files = _files(root)
    lists = _lists(root)
    if not lists:
        named = enumerate(files.items(), 1)
        return [_candidate(f"file {number} of {len(files)}", name, paths) for number, (name, paths) in named]
    tested = {_patient(name) for split, _, name in lists if split == "test"}
    listed = [
        _candidate(
            where,
            name,
            files.get(name, []),
            split,
            "its patient is tested on another CT, in test.txt" if split == "train" and _patient(name) in tested else "",
        )
        for split, where, name in lists
    ]
    unlisted = [paths for name, paths in files.items() if name not in {name for _, _, name in lists}]
    return listed + [
        Candidate(f"unlisted file {number} of {len(unlisted)}", "", problem="neither in train.txt nor in test.txt")
        for number, _ in enumerate(unlisted, 1)
    ]


def _files(root: Path) -> dict[str, list[Path]]:
    """The files by their IDs."""
    files: dict[str, list[Path]] = {}
    for path in files_under(root):
        if path.name.endswith(FILE):
            name = path.parent.name if path.name == FILE else path.name.removesuffix(f"_{FILE}")
            files.setdefault(name, []).append(path)
    return files


def _lists(root: Path) -> list[tuple[str, str, str]]:
    """Return split, place in the list, and ID of every listed CT; none if there are no lists."""
    for folder in (root, root / "data", root.parent, root.parent / "data"):
        found = {split: folder / name for split, name in LISTS.items() if (folder / name).is_file()}
        if len(found) == 1:
            raise UserError(
                "--root: expected train.txt and test.txt together; got one of them; copy the other one, too"
            )
        if found:
            return [line for split, path in found.items() for line in _lines(split, path)]
    return []


def _lines(split: str, path: Path) -> list[tuple[str, str, str]]:
    texts = enumerate(path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(), 1)
    return [(split, f"{path.name} line {number}", _id(text)) for number, text in texts if text.strip()]


def _id(text: str) -> str:
    """The ID in a list's line, which may be a path to its folder or file."""
    parts = [part for part in re.split(r"[/\\]", text.strip()) if part and part != FILE]
    return re.sub(rf"(_{re.escape(FILE)}|\.h5|\.hdf5)$", "", parts[-1]) if parts else ""


def _patient(name: str) -> str:
    return name.split(".")[0]


def _candidate(where: str, name: str, paths: list[Path], split: str = "", problem: str = "") -> Candidate:
    if len(paths) != 1 and not problem:
        count = len(paths) or "none"
        problem = f"expected one file of this ID below --root; there is {count}; copy the set again"
    if problem:
        return Candidate(where, _patient(name), problem=problem)
    return Candidate(where, _patient(name), paths[0], paths[0], split=split)
