"""Export of a run as a folder or archive to pass on, complete but without what must stay on this machine."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from x2c.core.errors import UserError
from x2c.core.files import read_json, temporary_beside, write_json, write_text
from x2c.core.run import RunDirectory
from x2c.core.slot import source_of
from x2c.core.weights import local_copy
from x2c.engine.experiment import best_device
from x2c.engine.generator import FRAME_FILE
from x2c.engine.model_card import model_card
from x2c.engine.model_file import MODEL_FILE, PARTS, Model, listed
from x2c.engine.parts import Parts
from x2c.engine.sampling import complete, finished_run, model_of
from x2c.engine.weight_copies import copy_weights

PLAIN = ("set_scores.json", "metrics.jsonl")
"""Files of a run that contain nothing about single patients or the machine."""
OF_PATIENTS = ("scores.parquet", "samples/volumes.npz", "samples/worst.npz")
"""Files of a run with scores by pseudonym, or with volumes and radiographs of test patients."""
OF_THE_PLACE = ("diff", "untracked")
"""Entries of provenance.json that are parts of someone's working tree."""
PERMISSIVE = ("Apache-2.0", "BSD-3-Clause", "MIT")
"""Licences under which copies of weights may be passed on."""
STATUS = ("state", "phase", "step", "steps", "starts", "updated")


@dataclass(frozen=True)
class Export:
    """A request to export."""

    run: Path
    out: Path
    """A folder that does not exist yet, or a .tar file."""
    with_weights: bool = False
    """Also export the published pretrained networks, which the run only names."""
    with_patients: bool = False
    """Also export scores and volumes of single patients of a prepared data set."""


def export(request: Export) -> list[str]:
    """Write the export; return what was left out, with the reasons.

    Raises UserError if the run is not done or damaged, if the target exists, and for weights that are not here.
    """
    run, out = finished_run(request.run), request.out
    if out.exists():
        raise UserError(f"{out}: expected a new folder or file; it exists; name another")
    if out.suffix in (".gz", ".tgz", ".zip", ".xz", ".bz2"):
        raise UserError(
            f"{out}: expected a folder or a .tar file; got {out.suffix}; weights do not shrink: give NAME.tar"
        )
    model = whole_model(run)
    name = model.values["run"]
    temporary = temporary_beside(out)
    folder = temporary / name if out.suffix == ".tar" else temporary
    try:
        folder.mkdir(parents=True)
        left_out = _fill(folder, model, request)
        if out.suffix == ".tar":
            archive = temporary / out.name
            _pack(folder, archive)
            archive.rename(out)
        else:
            folder.rename(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return left_out


def whole_model(run: RunDirectory) -> Model:
    """Return the model of a run; the model of an older x2c is first completed from its data set and cache."""
    model = model_of(run)
    if model.whole:
        return model
    config = model.config()
    parts = Parts(config, best_device(config))
    model.load_autoencoder(parts)
    complete(model, parts)
    made = model_of(run)
    if not made.whole:
        raise UserError(
            f"{run.path}: expected a folder that can be written, to complete it first; copy the run and export that"
        )
    return made


def _fill(folder: Path, model: Model, request: Export) -> list[str]:
    for name in model.values["files"]:
        _copy(model.folder / name, folder / name)
    values = dict(model.values)
    if request.with_weights:
        values["parts"] = {part: _with_weights(model, part, folder) for part in PARTS}
        values["files"] = listed(folder)
    write_json(folder / MODEL_FILE, values)
    write_json(folder / FRAME_FILE, values["frame"])
    write_text(folder / "config.yaml", yaml.safe_dump(values["config"], sort_keys=False, allow_unicode=True))
    status = RunDirectory(model.folder).status()
    write_json(folder / "status.json", {name: status.get(name) for name in STATUS} | {"reason": None})
    _write_provenance(model, folder)
    single = request.with_patients or not _of_patients(values)
    for name in (*PLAIN, *(OF_PATIENTS if single else ())):
        if (model.folder / name).is_file():
            _copy(model.folder / name, folder / name)
    write_text(folder / "README.md", model_card(values, model.folder))
    left_out = [] if single else [f"{', '.join(OF_PATIENTS)}: of single patients; --with-patients puts them in"]
    named = [about["asset"]["name"] for about in values["parts"].values() if about["asset"] and not about["copy"]]
    return left_out + [f"{name}: published, so it is only named; --with-weights puts a copy in" for name in named]


def _of_patients(values: dict[str, Any]) -> bool:
    """Return whether the test patients are real people."""
    config = values["config"]
    stages = config["stages"]
    return bool(config[stages[stages["order"][-1]]["data"]]["name"] == "prepared")


def _with_weights(model: Model, part: str, folder: Path) -> dict[str, Any]:
    """Return model.json's entry for a part with its published weights. Raises UserError if their licence forbids it."""
    about = dict(model.values["parts"][part])
    if about["asset"] and not about["copy"]:
        name, licence = about["asset"]["name"], about["asset"]["licence"]
        if licence not in PERMISSIVE:
            raise UserError(
                f"--with-weights: expected weights that may be passed on ({', '.join(PERMISSIVE)}); {name} is under "
                f"{licence}; leave --with-weights out: whoever samples gets them from {about['asset']['source']}"
            )
        source = local_copy(name, source_of(model.config().slots[part].options))
        opened = copy_weights(name, source, folder / part)
        about["copy"] = opened.relative_to(folder).as_posix()
    return about


def _write_provenance(model: Model, folder: Path) -> None:
    """Write provenance.json without the entries that describe the machine."""
    provenance = read_json(model.folder / "provenance.json") or {}
    kept = {name: value for name, value in provenance.items() if name not in OF_THE_PLACE}
    for weights in (kept.get("weights") or {}).values():
        # The path is dropped; the digest identifies the file.
        weights["source"] = weights["name"]
    write_json(folder / "provenance.json", kept)


def _copy(source: Path, target: Path) -> None:
    # Copied, not linked: the export must not change with the run, and must not keep anyone's permissions.
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _pack(folder: Path, archive: Path) -> None:
    """Write an uncompressed archive of a folder that does not say who made it."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=folder.name, filter=anonymous)
