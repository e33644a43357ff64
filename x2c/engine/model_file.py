"""model.json: everything that sampling needs of a run, so that the run's folder suffices on any machine."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2c import __version__
from x2c.core.config import DATA_ROLES, Config
from x2c.core.errors import UserError
from x2c.core.files import build_once, digest, file_digest, link_or_copy, read_json, replacing
from x2c.core.resolve import read_config, read_yaml, resolved
from x2c.core.run import RunDirectory
from x2c.core.slot import source_of
from x2c.core.weights import WEIGHTS as WEIGHTS_TABLE
from x2c.core.weights import needed, resolved_source, source_fingerprint, standing
from x2c.engine.generator import FRAME_FILE, Frame
from x2c.engine.identity import ADAPTER, WEIGHTS
from x2c.engine.parts import Parts
from x2c.engine.weight_copies import copy_weights
from x2c.models.lora import FILES as ADAPTER_FILES

MODEL_FILE = "model.json"
LABELS = ("unknown", "negative", "positive")
"""Embolism labels with which a new patient's volume can be sampled, if guidance is by label."""
FORMAT = 1
"""Version of model.json's format; increased when a reader of the former version would misread it."""
PARTS = ("autoencoder", "encoder")
SCORING_PARTS = ("perceptual", "features")
"""Parts of which stand-ins affect metrics only: no volume depends on them."""
TOLD = ("commit", "dirty", "stand_ins", "data")
"""Entries that model.json repeats from provenance.json."""


@dataclass(frozen=True)
class Model:
    """The content of model.json and the folder that holds it."""

    folder: Path
    values: dict[str, Any]
    whole: bool = True
    """Whether the folder has model.json. A run of an older x2c has none: its parts come from cache and data set."""

    @property
    def path(self) -> Path:
        """Path of model.json."""
        return self.folder / MODEL_FILE

    @property
    def frame(self) -> Frame:
        """Shapes, scales, spacing and window."""
        return Frame.from_json(self.values["frame"])

    @property
    def denoiser_sha256(self) -> str:
        """SHA-256 of the denoiser's weights."""
        return str(self.values["files"][WEIGHTS]["sha256"])

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """Return the config that the model was trained with, changed by `overrides`. A whole run needs no data set.

        What the run holds of its parts takes the place of their sources, unless an override names another.
        """
        asked = list(overrides)
        if not self.whole:
            return read_config(self.folder / "config.yaml", asked)
        held = [
            f"{part}.source={json.dumps(str(self.folder / about['copy']))}"
            for part, about in self.values["parts"].items()
            if about["copy"] and about["asset"] and not any(text.startswith(f"{part}.source=") for text in asked)
        ]
        return resolved(self.values["config"], str(self.path), [*held, *asked], detached=True)

    def load_encoder(self, parts: Parts) -> None:
        """Load the encoder, from the run's folder if it is there. Raises UserError if it has no weights."""
        if (file := self._own("encoder")) is not None:
            parts.encoder.open(file, parts.device)
        else:
            parts.load_encoder()

    def load_autoencoder(self, parts: Parts, before_training: Callable[[], None] = lambda: None) -> None:
        """Load the autoencoder, from the run's folder if it is there. Raises UserError if it has no weights."""
        if (folder := self._own("autoencoder")) is not None:
            parts.autoencoder.open(folder, parts.device)
        else:
            parts.load_autoencoder(before_training)

    def _own(self, part: str) -> Path | None:
        """Return the path of a part in the run's folder if no option can name its weights; else None."""
        about = self.values["parts"][part]
        return self.folder / about["copy"] if about["copy"] and not about["asset"] else None


def read_model(folder: Path) -> Model:
    """Return the model of a run's folder, after checking every file that it lists.

    Raises UserError if one of them, or model.json, is missing, damaged or of a newer x2c.
    """
    path = folder / MODEL_FILE
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: expected JSON; got another file ({error}); copy the run again") from None
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise UserError(f"{path}: expected a model with the number of its format; got none; copy the run again")
    if values["format"] > FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}; got {values['format']}, of a newer x2c; update x2c")
    model = Model(folder, values)
    try:
        _ = model.frame, model.denoiser_sha256, [values["parts"][part]["copy"] for part in PARTS], values["config"]
        if outside := [name for name in values["files"] if Path(name).is_absolute() or ".." in Path(name).parts]:
            raise ValueError(f"{outside[0]} is not inside the folder")
        lines = [_wrong(folder / name, about) for name, about in values["files"].items()]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: expected what sampling needs; got a file without it ({error}); copy the run again"
        ) from None
    if wrong := [line for line in lines if line]:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{wrong[0]}{more}; copy the run again")
    return model


def older_model(run: RunDirectory) -> Model:
    """Return the model of a run without model.json, written by an older x2c.

    Raises UserError for a frame that cannot be read, and where its data set is away.
    """
    path = run.path / FRAME_FILE
    config = _config_with_data(run)
    try:
        values = _described(run, config)
        _ = Frame.from_json(values["frame"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: expected what sampling needs; not readable ({error}); copy the run again") from error
    parts = {part: {"copy": None, "asset": _asset(run, config, part)} for part in PARTS}
    files = {WEIGHTS: {"sha256": file_digest(run.path / WEIGHTS)}}
    return Model(run.path, {**values, "parts": parts, "files": files}, whole=False)


def _config_with_data(run: RunDirectory) -> Config:
    file = run.path / "config.yaml"
    try:
        return read_config(file)
    except UserError as error:
        # Raises if something other than the data set is wrong; the message below leaves out what is said of versions.
        resolved(read_yaml(file), str(file), detached=True)
        raise UserError(
            f"{run.path}: a run of an older x2c, without {MODEL_FILE}: its data set and cache are needed once more, to add "
            f"its autoencoder: {error.__context__ or error}; bring the data set back to where it was, or train it again"
        ) from None


def write_model(run: RunDirectory, config: Config, parts: Parts) -> None:
    """Put what sampling needs of a trained run into its folder, and list it in model.json, which is written last.

    `parts` are those that the run was trained with; the autoencoder is loaded. The run has its weights and its frame.
    """
    if not run.writes:
        return
    described = {}
    for part in PARTS:
        asset = _asset(run, config, part)
        source = _weights_to_keep(parts, part, asset) if asset else _made_here(parts, part)
        copy = _keep(source, run.path / part) if source else None
        described[part] = {"name": config.slots[part].name, "copy": copy, "asset": asset}
    files = listed(run.path)
    # Libraries make weights readable for their owner only; all users who can read the run may sample from it.
    readable = stat.S_IMODE((run.path / "config.yaml").stat().st_mode)
    for name in files:
        (run.path / name).chmod(readable)
    run.write(MODEL_FILE, {**_described(run, config), "parts": described, "files": files})


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the run's files that sampling reads besides model.json, by path within its folder."""
    own = [folder / WEIGHTS, *(folder / ADAPTER / name for name in (*ADAPTER_FILES, FRAME_FILE))]
    kept = [path for part in PARTS for path in sorted((folder / part).glob("*"))]
    there = [path for path in (*own, *kept) if path.is_file() and not path.name.startswith(".")]
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in there
    }


def without_paths(config: Config, start: str = "") -> dict[str, Any]:
    """Return a config's values without paths of this machine. `start` replaces the file that training began with."""
    values = config.model_dump(mode="json", exclude_none=True)
    # Settings of how it was trained and tracked are left out: two trainings of one run leave the same file.
    kept = {name: values["compute"][name] for name in ("threads", "cpu")}
    values["compute"] = {**kept, "workers": 1, "tracker": [], "project": "x2c", "runs": "runs", "cache": "cache"}
    for role in DATA_ROLES:
        if "folder" in values.get(role, {}):
            values[role]["folder"] = ""
    for option, weights, value in needed(config):
        section: Any = values
        *sections, field = option.split(".")
        for name in sections:
            section = section[name]
        if value not in ("", weights.source):
            section.pop(field, None)
    if values["stages"]["start"]:
        values["stages"]["start"] = start or "(another machine's file)"
    return values


def _described(run: RunDirectory, config: Config) -> dict[str, Any]:
    """Return everything in model.json but parts and files. `volume` repeats what config and frame imply."""
    provenance = read_json(run.path / "provenance.json") or {}
    told = {name: provenance.get(name) for name in TOLD}
    told["stand_ins"] = [s for s in told["stand_ins"] or [] if s["part"] not in SCORING_PARTS]
    made_from = (provenance.get("id_made_from") or {}).get("config") or {}
    frame, shape = read_json(run.path / FRAME_FILE), config.resolution.shape
    return {
        "format": FORMAT,
        "run": run.path.resolve().name,
        "x2c": __version__,
        **told,
        "volume": {
            "shape": shape,
            "spacing_mm": frame["spacing_mm"],
            "box_mm": [count * mm for count, mm in zip(shape, frame["spacing_mm"], strict=True)],
            "window_hu": frame["window_hu"],
            "axes": "z y x",
        },
        "labels": list(LABELS) if config.given_label is not None else [],
        "frame": frame,
        "config": without_paths(config, (made_from.get("stages") or {}).get("start", "")),
    }


def _asset(run: RunDirectory, config: Config, part: str) -> dict[str, Any] | None:
    """Return name, licence and digest of a part's pretrained weights; None for a part without them."""
    for option, weights, value in needed(config):
        if option == f"{part}.source":
            known = ((read_json(run.path / "provenance.json") or {}).get("weights") or {}).get(option) or {}
            return {
                "name": weights.name,
                "source": weights.source,
                "revision": weights.revision,
                "licence": weights.licence,
                "files": dict(weights.sha256),
                "sha256": known.get("sha256") or source_fingerprint(value, weights.name),
            }
    return None


def _weights_to_keep(parts: Parts, part: str, asset: Mapping[str, Any]) -> Path | None:
    """Return the pretrained weights that the run must hold; None if they are published under a digest or missing."""
    value = source_of(parts.config.slots[part].options)
    source = Path(resolved_source(asset["name"], value)).expanduser()
    if not source.exists() or standing(WEIGHTS_TABLE[asset["name"]], source) == "published":
        return None
    return kept_copy(asset, source, parts.cache)


def kept_copy(asset: Mapping[str, Any], source: Path, cache: Path) -> Path:
    """Return a cached copy of pretrained weights without pickles: a folder, or a folder's only file."""
    folder = cache / "weights" / f"{asset['name']}-{asset['sha256'][:16]}"
    build_once(folder, lambda path: copy_weights(asset["name"], source, path))
    return folder / f"{asset['name']}.safetensors" if source.is_file() else folder


def _made_here(parts: Parts, part: str) -> Path | None:
    """Return the unpublished weights of a part: a trained autoencoder's folder, or a drawn encoder's tensors."""
    if part == "autoencoder":
        # A user's own part may have no folder; its weights are then searched for as in training.
        return getattr(parts.autoencoder, "folder", None)

    def build(path: Path) -> None:
        parts.load_encoder()
        parts.encoder.save(path / "model.safetensors")

    key = digest(parts.encoder.fingerprint())
    return build_once(parts.cache / "encoders" / f"{parts.config.encoder.name}-{key}", build) / "model.safetensors"


def _keep(source: Path, folder: Path) -> str:
    """Link or copy a file, or a folder's files, into a folder of the run and nothing else; return what to open."""
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    for file in files:
        with replacing(folder / file.name) as temporary:
            link_or_copy(file, temporary)
    for other in set(folder.iterdir()) - {folder / file.name for file in files}:
        other.unlink()
    return folder.name if source.is_dir() else f"{folder.name}/{source.name}"


def _wrong(path: Path, about: Mapping[str, Any]) -> str:
    """Describe how a file differs from its entry in model.json; empty if it does not."""
    try:
        size = path.stat().st_size
        if size != about["bytes"]:
            return f"{path}: damaged: expected {about['bytes']} bytes, as {MODEL_FILE} says; got {size}"
        came = file_digest(path)
    except OSError as error:
        return f"{path}: expected a file that {MODEL_FILE} lists; it cannot be read ({error.strerror})"
    return "" if came == about["sha256"] else f"{path}: damaged: expected SHA-256 {about['sha256']}; got {came}"
