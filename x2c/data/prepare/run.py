"""Preparing a data set: list, make in parallel, cross-check, split, write down, show."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from joblib import Parallel, delayed

from x2c.core.console import track
from x2c.core.errors import UserError
from x2c.core.files import digest, locked, read_json, write_json
from x2c.core.prepared import ABOUT_FILE
from x2c.core.registry import SOURCES
from x2c.data.prepare.pair import DRR_FILE, HU_FILE, XRAY_FILE, Record, prepare_pair
from x2c.data.prepare.pseudonyms import KEY_FILE, Key, open_key, write_list
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.report import print_report, write_report
from x2c.data.prepare.sheet import draw_sheet
from x2c.data.prepare.splits import PAPER, assign
from x2c.data.prepare.store import PAIRS_FOLDER, manifest_of, write_store
from x2c.data.sources.candidate import Candidate

ORIGIN_FILE = "source.json"


@dataclass(frozen=True)
class Request:
    """What `x2c/prepare.py` was asked for."""

    source: str
    root: Path
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    key: Path | None = None
    """Folder of the pseudonyms' key; None: the root."""
    splits: tuple[int, int, int] = PAPER
    seed: int = 0
    workers: int = 0
    """0: one a core."""


@dataclass(frozen=True)
class Named:
    """A candidate under its pseudonyms."""

    candidate: Candidate
    patient: str
    study: str


def prepare(request: Request) -> list[Record]:
    """Prepare a data set in `out`, or go on where an interrupted preparation stopped; returns a record per pair.

    Raises UserError where nothing can be prepared. A pair that cannot be used is excluded with its reason.
    """
    _check(request)
    with locked(request.out / ".lock", patience_seconds=0) as mine:
        if not mine:
            raise UserError(f"--out: {request.out} is being prepared by another process; wait for it or give another")
        key_folder = request.key or request.root
        key = open_key(key_folder)
        _claim(request, key)
        named = _named(request, SOURCES.get(request.source)(request.root), key)
        write_list(key_folder, ((n.patient, n.study, n.candidate.patient) for n in named))
        # Until all is done again, what is there is no data set.
        (request.out / ABOUT_FILE).unlink(missing_ok=True)
        records = _without_copies(_all_made(request, named))
        _drop_unlisted(request.out, records)
        return _finish(request, records)


def _check(request: Request) -> None:
    if not request.root.is_dir():
        raise UserError(f"--root: no folder {request.root}; give the folder of the data as downloaded or exported")
    if request.out.resolve().is_relative_to(request.root.resolve()):
        raise UserError("--out: lies in --root, among the patients' files; give another folder")
    if request.recipe.size[0] % 2:
        raise UserError(f"--size: expected an even depth, which two volumes share; came {request.recipe.size[0]}")
    if sum(request.splits) == 0:
        raise UserError("--splits: expected numbers of which one is more than 0, such as 803:50:45")
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot write to {request.out} ({error.strerror}); give another folder") from None


def _claim(request: Request, key: Key) -> None:
    """Refuse a folder that holds something else: unlisted examinations are removed from it."""
    path = request.out / ORIGIN_FILE
    origin = {"source": request.source, "key": digest(key.salt.hex())}
    known = read_json(path)
    if known is None and any(entry.name != ".lock" for entry in request.out.iterdir()):
        raise UserError(f"--out: {request.out} is not empty and no prepared data set; give another folder")
    if known not in (None, origin):
        raise UserError(
            f"--out: {request.out} was prepared from another source, or its {KEY_FILE} was replaced; give another folder"
        )
    write_json(path, origin)


def _named(request: Request, candidates: Sequence[Candidate], key: Key) -> list[Named]:
    """Candidates under their pseudonyms; what is listed twice is a problem of the second."""
    if not candidates:
        raise UserError(f"--root: {request.source} lists no pairs; is it the right --source?")
    listed: dict[Path, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.ct is not None:
            listed[candidate.ct].append(candidate)
    named: list[Named] = []
    for candidate in candidates:
        same = listed[candidate.ct] if candidate.ct is not None else [candidate]
        # What has no files is named by where it stands.
        paths = [str(path.relative_to(request.root)) for path in (candidate.ct, candidate.xray) if path is not None]
        place = "\x1f".join(paths) if paths else candidate.where
        if len({other.patient for other in same}) > 1:
            problem = f"its CT stands under {len({other.patient for other in same})} patients"
        else:
            problem = f"its CT is listed twice; see {same[0].where}" if candidate is not same[0] else ""
        if problem:
            candidate, place = replace(candidate, ct=None, xray=None, problem=problem), candidate.where
        patient = key.patient(candidate.patient or candidate.where)
        named.append(Named(candidate, patient, key.study(candidate.patient, place)))
    return named


def _all_made(request: Request, named: Sequence[Named]) -> list[Record]:
    pairs = request.out / PAIRS_FOLDER
    workers = min(request.workers or len(os.sched_getaffinity(0)), len(named))
    make = delayed(prepare_pair)
    jobs = Parallel(workers, return_as="generator", batch_size=1)(
        make(n.candidate, n.patient, n.study, request.recipe, pairs / n.study) for n in named
    )
    return list(track(jobs, f"preparing {len(named)} pairs", len(named)))


def _without_copies(records: list[Record]) -> list[Record]:
    """The records without copies, voxel by voxel, which would cross the splits.

    Of one patient's the first stays; where patients share a CT nobody knows whose it is.
    """
    same: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        same[record.digests.get(HU_FILE, record.study)].append(record)

    def checked(record: Record) -> Record:
        others = [other for other in same[record.digests.get(HU_FILE, record.study)] if other is not record]
        strangers = [other for other in others if other.patient != record.patient]
        if not strangers and (not others or same[record.digests[HU_FILE]][0] is record):
            return record
        of = f"of another patient ({strangers[0].where})" if strangers else f"at {others[0].where}"
        reason = f"its CT is the same, voxel by voxel, as one {of}"
        return record.model_copy(update={"status": "excluded", "reasons": (*record.reasons, reason)})

    return [checked(record) for record in records]


def _drop_unlisted(out: Path, records: Sequence[Record]) -> None:
    """Remove what was prepared of examinations that the source no longer lists."""
    listed = {record.study for record in records}
    for folder in (out / PAIRS_FOLDER).iterdir():
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

    rows = pd.DataFrame({"patient": [r.patient for r in included], "label": [r.label for r in included]})
    twice = rows.loc[rows.index.repeat(2)].reset_index(drop=True)
    manifest = manifest_of(included, assign(twice["patient"], twice["label"], request.splits, request.seed))
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
        "splits": {"proportions": request.splits, "seed": request.seed},
    }
    fingerprint = write_store(request.out, manifest, about)
    draw_sheet(request.out, manifest)
    print_report(records, manifest, f"{request.out} · {fingerprint}")
    return records
