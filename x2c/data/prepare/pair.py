"""Making of one pair, from its files to its folder, which is whole or absent."""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path
from typing import Any

from x2c.core.errors import FileError, UserError
from x2c.core.files import file_digest, read_json, write_json
from x2c.core.script import PROJECT
from x2c.core.stopping import interruptible
from x2c.data.prepare.make import make_pair
from x2c.data.prepare.pseudonyms import Key
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.record import RECORD_FILE, Record
from x2c.data.prepare.trouble import cannot_be_opened, machine_trouble, stops_on_trouble
from x2c.data.sources.candidate import UNKNOWN_LABEL, Candidate
from x2c.data.sources.listing import files_under


def prepare_pair(candidate: Candidate, patient: str, study: str, recipe: Recipe, key: Key, folder: Path) -> Record:
    """The record of a pair whose arrays lie in `folder`; they are made first unless they are there already.

    hu.npy [2, D/2, H, W] int16, the two halves in HU; xray.npy [h, w] and drr.npy [2, h, w], uint16 for [0, 1];
    thumbnail.npy, by which copies are found. What is excluded has a record and no arrays; what the listing tells is
    unusable has no folder. A file that the system would not open is tried again at the next call. Raises UserError, and
    leaves no folder, for trouble of the machine.
    """
    emboli = candidate.emboli
    about: dict[str, Any] = {
        "study": study,
        "patient": patient,
        "where": candidate.where,
        "label": candidate.label,
        "split": candidate.split,
        "embolism_left": UNKNOWN_LABEL if emboli is None else emboli.left,
        "embolism_right": UNKNOWN_LABEL if emboli is None else emboli.right,
        "embolism_central": UNKNOWN_LABEL if emboli is None else emboli.central,
        "stamp": "",
    }
    if candidate.problem or candidate.ct is None:
        return Record(**about, status="excluded", reasons=(candidate.problem,))
    with stops_on_trouble(candidate.where):
        try:
            about["stamp"] = stamp = _stamp(candidate, recipe)
        except OSError as error:
            if machine_trouble(error):
                raise
            return Record(**about, status="excluded", reasons=(f"a file cannot be opened ({error.strerror})",))
    known = _known(folder)
    if known.get("stamp") == stamp:
        return Record.model_validate({**known, **about})
    temporary = folder.with_name(f".{study}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with stops_on_trouble(candidate.where):
            temporary.mkdir(parents=True)
            record = _made(candidate, candidate.ct, about, recipe, key, temporary)
            write_json(temporary / RECORD_FILE, record.model_dump(mode="json"))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _made(candidate: Candidate, ct: Path, about: dict[str, Any], recipe: Recipe, key: Key, folder: Path) -> Record:
    """Return the record of a pair that was made, or that cannot be. Raises errors of the system."""
    try:
        with interruptible():
            record = Record(**about, **make_pair(candidate, ct, about["study"], recipe, key, folder))
    except FileError as error:
        if machine_trouble(error):
            raise
        is_xray = candidate.xray not in (None, ct) and error.path.is_relative_to(candidate.xray)
        again = {"stamp": ""} if cannot_be_opened(error) else {}
        reason = f"{'X-ray' if is_xray else 'CT'}: {error.reason}"
        record = Record(**{**about, **again}, status="excluded", reasons=(reason,))
    except UserError:
        raise  # without this no pair can be made
    except Exception as error:
        if machine_trouble(error):
            raise
        # Its message may quote a header: only the place of the error is reported.
        reason = f"{type(error).__name__} at {_place(error)}; please report it"
        record = Record(**{**about, "stamp": ""}, status="excluded", reasons=(reason,))
    if record.status == "excluded":
        for left in folder.iterdir():
            left.unlink()
    return record


def _known(folder: Path) -> dict[str, Any]:
    """Return the record of an earlier making; empty if there is none, or if its files have changed."""
    try:
        known: dict[str, Any] = read_json(folder / RECORD_FILE) or {}
    except ValueError:
        return {}
    files = known.get("digests", {}).items()
    return (
        known if all((folder / name).is_file() and file_digest(folder / name) == made for name, made in files) else {}
    )


def _stamp(candidate: Candidate, recipe: Recipe) -> str:
    """Digest by which a pair is known to need no second making: recipe, listing, and size and time of every file."""
    paths = [path for path in (candidate.ct, candidate.xray) if path is not None]
    files = [file for path in paths for file in (files_under(path) if path.is_dir() else [path])]
    states = [path.stat() for path in files if path.exists()]
    emboli = sorted(candidate.emboli.slices) if candidate.emboli else None
    listed = [str(candidate.ct_taken), str(candidate.xray_taken), repr(candidate.header), candidate.remarks, emboli]
    return recipe.stamp([listed, [[state.st_size, state.st_mtime_ns] for state in states]])


def _place(error: Exception) -> str:
    """Return the last line of our code in an error's traceback."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PROJECT / "x2c")]
    return f"{Path(own[-1].filename).relative_to(PROJECT)}:{own[-1].lineno}" if own else "an unknown place"
