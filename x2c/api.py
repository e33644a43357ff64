"""The Python API: everything that `import x2c` offers, each as one call.

    model = x2c.load("l1")                          a finished run: its folder, id, beginning of an id, or variant
    model = x2c.train("l1", scale="cpu")            the same, trained first where it is not finished
    made = model.sample("image.png", samples=8)     volumes in HU, as x2c/sample.py makes them, to the bit
    made.save("volume.nii.gz")
    x2c.list_runs(), x2c.scores()                   pandas DataFrames
    model.save_pretrained("l1_model"); x2c.from_pretrained("l1_model")

Paths are text or pathlib.Path, and relative to the folder that Python runs in. An error in a request is one
`x2c.UserError`, raised before any work is done. `list_runs` is not called `runs`, since `x2c.runs` is the package of
`python -m x2c.runs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.read.runs import Run, StandIn
from analysis.tabulate.measures import COLUMNS, MORE_COLUMNS
from x2c.core import hub
from x2c.core.config import Config
from x2c.core.console import logged
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.core.run_lookup import find_run
from x2c.core.yaml_text import quoted
from x2c.data.nifti import SUFFIX, affine, write_nifti
from x2c.engine.export import Export, export
from x2c.engine.loaded import Drawn, Loaded
from x2c.engine.model_file import Model as ModelFile
from x2c.engine.sampling import finished_run, model_of
from x2c.engine.sampling_paths import Changes
from x2c.engine.volume_files import NOTICE, stored
from x2c.runs.listing import matching_runs, run_rows

PathOrText = str | PathLike[str]
# Not Sequence[str], which a single name is as well.
Several = Sequence[PathLike[str]] | list[str] | list[PathOrText] | tuple[PathOrText, ...]
WARNING = "warning: "
RUN_COLUMNS = (
    *("id", "variant", "scale", "data", "cohort", "seed", "state", "reason", "phase", "step", "steps"),
    *("psnr_mean", "psnr_sd", "patients", "bytes", "updated", "whole"),
)
SCORE_COLUMNS = ("run", "variant", "scale", "data", "seed", "patient", "label", "metric", "value")


@dataclass(frozen=True)
class Samples:
    """Volumes generated from one radiograph. They are research material, not for diagnosis.

    Arrays are indexed [D, H, W]: D from inferior to superior, H from anterior to posterior, W from the patient's right
    to the left.
    """

    volumes: NDArray[np.float32] = field(repr=False)
    """The samples in HU, [samples, D, H, W]."""
    mean: NDArray[np.float64] = field(repr=False)
    """Mean over the samples in HU, [D, H, W]."""
    sd: NDArray[np.float64] = field(repr=False)
    """Standard deviation over the samples (n − 1) in HU, [D, H, W]; NaN for a single sample."""
    affine: NDArray[np.float64] = field(repr=False)
    """Matrix [4, 4] from voxels (w, h, d, 1) to mm (right, anterior, superior, 1), as nibabel reads it from a file: for
    `nibabel.Nifti1Image(made.mean.transpose(2, 1, 0), made.affine)`."""
    spacing_mm: tuple[float, float, float]
    """Size of a voxel in mm, (z, y, x)."""
    window_hu: tuple[float, float]
    """The lowest and highest HU that the model was trained with."""
    run: str
    """The run's id."""
    seed: int
    """Seed of the noise."""
    xray_sha256: str
    """SHA-256 of the radiograph's file; its name, which may identify a patient, is kept nowhere."""
    warnings: tuple[str, ...]
    """Doubts about the radiograph: it seems inverted, turned, blank, no frontal chest, …"""
    notes: tuple[str, ...]
    """Other findings made when it was read."""
    stand_ins: tuple[str, ...]
    """Small networks of the run that take the place of pretrained ones: `encoder: clip_standin instead of …`."""

    def save(self, path: PathOrText, which: int | str = "mean") -> Path:
        """Write a volume in HU as NIfTI, as x2c/sample.py does, and return its path; an existing file is replaced.

        `which` is `mean`, `sd`, or the number of a sample, from 1. Mean and samples are rounded to whole HU. Raises UserError
        for another suffix than .nii.gz, and for a volume that does not exist.
        """
        out = Path(path).expanduser()
        if not out.name.endswith(SUFFIX) or out.name == SUFFIX:
            raise UserError(f"path: expected a file NAME{SUFFIX}; got {out}; give such a name")
        values = self._volume(which)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(out, values, self.spacing_mm, NOTICE)
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror}); give another place") from error
        return out

    def _volume(self, which: int | str) -> NDArray[Any]:
        count = len(self.volumes)
        if which == "mean":
            return stored(self.mean)
        if which == "sd" and count > 1:
            return self.sd.astype(np.float32)
        if isinstance(which, int) and 1 <= which <= count:
            return stored(self.volumes[which - 1])
        choices = f"'mean'{', ' + repr('sd') if count > 1 else ''} or the number of a sample, 1 to {count}"
        raise UserError(f"which: expected {choices}; got {which!r}; give one of them")


class Model:
    """A finished run to sample from, by `x2c.load`, `x2c.train` or `x2c.from_pretrained`.

    Its networks are loaded when it first samples, and stay in memory.
    """

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._loaded = Loaded(file)

    def __repr__(self) -> str:
        return f"<x2c.Model {self.id} in {self.path}>"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._file.folder

    @property
    def id(self) -> str:
        """The run's id, independent of the folder's name."""
        return str(self._file.values["run"])

    @property
    def config(self) -> Config:
        """The config that it was trained with."""
        return self._file.config()

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """Small networks that take the place of pretrained ones and affect volumes."""
        told = self._file.values["stand_ins"]
        return tuple(StandIn(s["part"], s["name"], s.get("instead_of") or "").text for s in told)

    @overload
    def sample(
        self,
        xray: PathOrText,
        samples: int = 8,
        seed: int | None = 0,
        *,
        label: str | None = None,
        strict: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> Samples: ...

    @overload
    def sample(
        self,
        xray: Several,
        samples: int = 8,
        seed: int | None = 0,
        *,
        label: str | None = None,
        strict: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Samples]: ...

    def sample(
        self,
        xray: PathOrText | Several,
        samples: int = 8,
        seed: int | None = 0,
        *,
        label: str | None = None,
        strict: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> Samples | list[Samples]:
        """Sample volumes from a radiograph, or from each of a list of them, with the same bits as x2c/sample.py.

        - `xray`: PNG, JPEG, TIFF or DICOM, frontal; for a list of them, a list is returned.
        - `samples`: volumes of each; the noise of sample k depends only on the seed, on the file's content and on k.
        - `seed`: seed of the noise; None: the run's.
        - `label`: `unknown`, `negative` or `positive`, for runs guided by the embolism label; None: the run's.
        - `strict`: raise for a doubtful radiograph, instead of a line on the error stream and `Samples.warnings`.
        - `overrides`: changes that sampling may make to the run's config, such as `{"sampler.steps": 50}`.

        Raises UserError for an invalid request, x2c.core.errors.FileError (a UserError) for a radiograph that cannot
        be read, both before the first volume is made.
        """
        alone = isinstance(xray, str | PathLike)
        paths = [Path(one).expanduser() for one in ([xray] if isinstance(xray, str | PathLike) else xray)]
        for path in paths:
            if not path.is_file():
                what = "a folder, of which the files are to be listed" if path.is_dir() else f"no file {path}"
                raise UserError(f"xray: expected a radiograph (PNG, JPEG, TIFF, DICOM); got {what}; give files")
        if samples < 1:
            raise UserError(f"samples: expected 1 or more; got {samples}; give a number of volumes")
        changes = Changes(seed=seed, label=label, overrides=tuple(as_overrides(overrides)))
        made = [self._samples(drawn) for drawn in self._loaded.sample(paths, samples, changes, strict=strict)]
        return made[0] if alone else made

    def save_pretrained(self, folder: PathOrText, *, with_weights: bool = False, with_patients: bool = False) -> Path:
        """Write everything that sampling needs, with a model card, into a new folder, ready for the Hugging Face hub.

        The same as `python -m x2c.runs export`: without paths and names of this machine; and, if the run was scored on
        people, without scores and volumes of single patients, unless `with_patients`. Published pretrained networks are
        only named, unless `with_weights`. Returns the folder. Raises UserError if it exists or cannot be written.
        """
        out = Path(folder).expanduser()
        export(Export(self.path, out, with_weights, with_patients))
        return out

    def _samples(self, drawn: Drawn) -> Samples:
        frame, remarks = self._file.frame, drawn.xray.remarks
        shape = drawn.volumes.shape
        return Samples(
            volumes=drawn.volumes,
            mean=drawn.mean,
            sd=drawn.sd,
            affine=affine((shape[1], shape[2], shape[3]), frame.spacing_mm),
            spacing_mm=frame.spacing_mm,
            window_hu=frame.window_hu,
            run=self.id,
            seed=drawn.config.seed,
            xray_sha256=drawn.xray.sha256,
            warnings=tuple(text.removeprefix(WARNING) for text in remarks if text.startswith(WARNING)),
            notes=tuple(text.removeprefix("note: ") for text in remarks if not text.startswith(WARNING)),
            stand_ins=self.stand_ins,
        )


def load(run: PathOrText, folder: PathOrText = "runs") -> Model:
    """Return the model of a finished run.

    `run` is the path of its folder; or, for a run in `folder`, its id, a unique beginning of its id, or a variant,
    whose newest finished run is taken. Raises UserError if there is no such run, if it is not done, or if a file of it
    is missing or damaged.
    """
    return _opened(find_run(fspath(run), Path(folder).expanduser(), "run"))


def train(
    variant: str,
    scale: str = "cpu",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: PathOrText = "runs",
) -> Model:
    """Train, sample and score a variant, as x2c/train.py does, and return the model; at once if that is done already.

    `overrides` are fields of the configuration by the dotted names of the command line, with Python's values:

        x2c.train("l1_lpips", "smoke", overrides={"loss.lpips.weight": 0.02, "data": "atlas", "compute.tracker": []})

    A value may be a mapping, which stands for all fields below its name. `python x2c/train.py --help-config` lists all
    fields. An interrupted training is resumed. Raises UserError for names and values that are wrong, before anything is
    trained.
    """
    runs = {"compute.runs": fspath(folder)}
    config = resolve(variant, scale, seed, as_overrides({**runs, **(overrides or {})}))
    # Imported here: only training needs Accelerate.
    from x2c.engine.experiment import run
    from x2c.engine.identity import run_directory

    with logged(run_directory(config).path / "log.txt"):
        return _opened(run(config).path)


def list_runs(
    folder: PathOrText = "runs",
    *,
    variant: str | None = None,
    scale: str | None = None,
    data: str | None = None,
    state: str | None = None,
) -> pd.DataFrame:
    """Return one row per run of a folder, sorted by id, as `python -m x2c.runs list` shows them.

    The columns are RUN_COLUMNS: PSNR in dB, over test patients; `updated` in UTC; `whole`: whether the folder is
    enough to sample from. Raises UserError for a missing folder, and for a variant, scale or data set without a run.
    """
    return pd.DataFrame(run_rows(Path(folder).expanduser(), variant, scale, data, state), columns=RUN_COLUMNS)


def scores(
    folder: PathOrText = "runs", *, variant: str | None = None, scale: str | None = None, data: str | None = None
) -> pd.DataFrame:
    """Return one row per finished run, test patient and metric, in the columns SCORE_COLUMNS.

    `label` is 0 without and 1 with embolism, 2 if unknown. A metric that a stand-in network measured has it in its name
    (`lpips[stand-in]`). A value that is not defined is NaN. For a table of means:

        x2c.scores().pivot_table(index="variant", columns="metric", values="value")

    Runs of different scales or cohorts are not comparable. Raises UserError as `list_runs` does.
    """
    found = matching_runs(Path(folder).expanduser(), variant, scale, data, "done")
    tables = [_long(run) for run in found if run.scores is not None]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=SCORE_COLUMNS)


def from_pretrained(source: PathOrText, revision: str = "") -> Model:
    """Return the model that `Model.save_pretrained` wrote, from its folder or a repository of the Hugging Face hub.

    A name such as `owner/model` that is not a folder is fetched into the hub's cache, once; `revision` is its branch,
    tag or commit. Raises UserError if it cannot be found.
    """
    path, name = Path(source).expanduser(), hub.repository(fspath(source))
    if not path.is_dir():
        if not name:
            raise UserError(f"source: expected a folder or a repository OWNER/NAME of the hub; got {source}; give one")
        try:
            path = hub.snapshot(name, revision)
        except OSError as error:
            raise UserError(
                f"source: expected a folder, or a repository of the hub that can be fetched; got {source} ({error}); "
                "correct the name, or fetch it where there is a network and give its folder"
            ) from None
    return _opened(path)


def as_overrides(values: Mapping[str, Any] | None) -> list[str]:
    """Return overrides with Python's values in the form of the command line, `a.b=value`; paths are text."""
    # NumPy's numbers, which JSON does not know, have an `item`.
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in (values or {}).items()}
    return [f"{name}={quoted(value)}" for name, value in plain.items()]


def _opened(folder: Path) -> Model:
    return Model(model_of(finished_run(folder)))


def _long(run: Run) -> pd.DataFrame:
    assert run.scores is not None
    parts = {stand_in.part for stand_in in run.stand_ins}
    measured_by = {column.key: column.part for column in (*COLUMNS, *MORE_COLUMNS)}
    named = {name: f"{name}[stand-in]" for name in run.scores if measured_by.get(name) in parts}
    table = run.scores.rename(columns=named).melt(["patient", "label"], var_name="metric", value_name="value")
    about = {"run": run.id, "variant": run.variant, "scale": run.scale, "data": run.dataset, "seed": run.seed}
    return table.assign(**about)[list(SCORE_COLUMNS)]
