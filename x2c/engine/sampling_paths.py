"""Paths of a request to sample: run, radiographs and output files, checked before anything heavy is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.run import RunDirectory
from x2c.data.nifti import SUFFIX


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes that sampling may make to a run's config."""

    seed: int | None = None
    """Seed of the noise. None: the run's."""
    label: str | None = None
    """Embolism label, for runs guided by it. None: the run's."""
    overrides: tuple[str, ...] = ()
    """Further changes `a.b=value`, of the fields that `x2c/sample.py --help` lists."""


@dataclass(frozen=True)
class Request(Changes):
    """A request to `x2c/sample.py`."""

    run: Path
    xray: Path
    """A radiograph, or a folder of them."""
    out: Path
    """A .nii.gz file, or a folder."""
    samples: int = 1
    """Volumes per radiograph."""
    adapter: Path | None = None
    overwrite: bool = False
    strict: bool = False
    """Refuse doubtful X-rays (default: warn about them)."""


def check_paths(request: Request) -> list[tuple[Path, Path]]:
    """Return each radiograph's file with the common path of what is written for it.

    Raises UserError for paths that cannot be read or written, or that would be overwritten.
    """
    targets = _targets(request)
    _check_writable(request, [path for _, out in targets for path in files(out, request.samples)])
    return targets


def done_run(path: Path) -> RunDirectory:
    """Return the run directory at `path`. Raises UserError if it is missing or not done."""
    if not path.is_dir():
        raise UserError(f"--run: no folder {path}; give a run directory, such as runs/full-cpu-s0-…")
    run = RunDirectory(path)
    status = run.now()
    if status.get("state") != "done":
        where = f" ({status['phase']})" if status.get("phase") else ""
        state = f"{status['state']}{where}" if status else "not begun: it has no status.json"
        reason = f", because of {status['reason']}" if status.get("reason") else ""
        raise UserError(
            f"--run: {path} is not done: expected state done; it is {state}{reason}; train it to its end first"
        )
    return run


def volume_names(out: Path, samples: int) -> list[str]:
    """Return file names, without suffix, of a radiograph's volumes: the samples, and for several also mean and SD."""
    if samples == 1:
        return [out.name]
    return [*(f"{out.name}_{sample}" for sample in range(1, samples + 1)), f"{out.name}_mean", f"{out.name}_sd"]


def files(out: Path, samples: int) -> Iterator[Path]:
    """Return all files that are written for one radiograph."""
    for name in volume_names(out, samples):
        yield out.with_name(name + SUFFIX)
        yield out.with_name(name + ".json")
    yield out.with_name(out.name + ".png")


def _targets(request: Request) -> list[tuple[Path, Path]]:
    """Return each radiograph's file with the common path of what is written for it."""
    xray, out = request.xray, request.out
    if xray.is_dir():
        # Imported here: it takes a while, and reporting a wrong path does not need it.
        from x2c.data.readers import radiographs_in

        if out.name.endswith(SUFFIX) or out.is_file():
            raise UserError(f"--out: expected a folder, since --xray is one; got {out}; give a folder")
        if out.resolve() == xray.resolve():
            raise UserError(f"--out: the pictures would lie among the X-rays in {xray}; give another folder")
        return [(path, out / f"xray_{number:04d}") for number, path in enumerate(radiographs_in(xray), start=1)]
    if not xray.exists():
        raise UserError(
            f"--xray: no file or folder {xray}; give a radiograph (PNG, JPEG, TIFF, DICOM) or a folder of them"
        )
    if not out.name.endswith(SUFFIX) or out.name == SUFFIX:
        raise UserError(f"--out: expected a file NAME{SUFFIX}, since --xray is one file; got {out}; give such a name")
    base = out.with_name(out.name.removesuffix(SUFFIX))
    if xray.resolve() in (path.resolve() for path in files(base, request.samples)):
        raise UserError(f"--out: {xray.name} would be replaced by the picture of the result; give another name")
    return [(xray, base)]


def _check_writable(request: Request, paths: list[Path]) -> None:
    if not request.overwrite and (there := [path for path in paths if path.exists()]):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(
            f"--out: {there[0]}{more} {'exist' if more else 'exists'} already; give another name, or --overwrite"
        )
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder} ({error.strerror}); give another folder") from None
