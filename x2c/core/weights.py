"""Pretrained weights: their source, their place on this machine, and the check of their digests.

A copy is searched for in this order: the path that the asset's option names; `X2C_WEIGHTS/<name>` (a folder) or
`X2C_WEIGHTS/<name>.<suffix>` (a file); the library's own cache; the hub, unless HF_HUB_OFFLINE is set.
A copy that an option names is the user's own choice and is not checked. Any other must have the digest that
`X2C_WEIGHTS/SHA256SUMS` lists for it, or else the published one, if one is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from x2c.core import hub
from x2c.core.config import Config
from x2c.core.digests import SUMS, read_sums, sha256
from x2c.core.errors import UserError
from x2c.core.files import digest
from x2c.core.published import WEIGHTS as WEIGHTS
from x2c.core.published import Weights as Weights
from x2c.core.published import asset_of as asset_of
from x2c.core.section import Section
from x2c.core.slot import network_of, source_of

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
CONFIGS = ("config.json", "open_clip_config.json", "preprocessor_config.json")
"""Files that libraries read beside the weights to build a network."""


def weights_folder() -> Path | None:
    """Return the folder X2C_WEIGHTS names; None if the variable is not set. Raises UserError if it is not a folder."""
    text = os.environ.get("X2C_WEIGHTS", "")
    if text and not Path(text).expanduser().is_dir():
        raise UserError(f"X2C_WEIGHTS: expected a folder of pretrained weights; got {text}; make it or unset it")
    return Path(text).expanduser().absolute() if text else None


def find(name: str) -> Path | None:
    """Return the place of an asset without an option: in X2C_WEIGHTS, or in its library's cache."""
    weights = WEIGHTS[name]
    return _provided(weights) or (_in_hub_cache(weights) if weights.kind == "FOLDER" else _in_torch_cache(weights))


def resolved_source(name: str, option: str = "") -> str:
    """Return the local path that will be loaded; without one, the hub's repository or the asset's source in words.

    `option` is the value of the asset's option; empty or the default means that the user chose none.
    """
    weights = WEIGHTS[name]
    if _chosen(weights, option):
        return option.removeprefix("local-dir:")
    found = find(name)
    return str(found) if found else weights.source


def local_copy(name: str, option: str = "") -> Path:
    """The asset's folder or file, fetched if possible, its digests checked. Raises UserError with the remedy."""
    weights, source = WEIGHTS[name], resolved_source(name, option)
    path = Path(source).expanduser()
    if not path.exists():
        path = _fetched(weights, source)
    if weights.kind != ("FOLDER" if path.is_dir() else "FILE") and weights.kind != "PATH":
        raise UserError(f"{weights.option}: expected a {weights.kind.lower()} of {weights.source}; got {path}")
    verify(weights, path, published=not _chosen(weights, option))
    return path


def verify(weights: Weights, path: Path, *, published: bool) -> None:
    """Raise UserError if a copy's digest is not the listed one, or not the `published` one if that is required."""
    for file, digests, where in expectations(weights, path, published=published):
        came = sha256(file, fresh=weights.is_code) if file.is_file() else "no such file"
        if came not in digests:
            raise UserError(
                f"{file}: expected SHA-256 {' or '.join(digests)} ({where}); got {came}; get {weights.source} again, "
                f"or name your own copy by --{weights.option}={weights.kind}"
            )
    if weights.is_code and standing(weights, path) == "unknown":
        raise UserError(
            f"{weights.option}: {path} holds code and is loaded only if its digest is known; its SHA-256 "
            f"{sha256(path)} is neither published nor in {SUMS}; if you trust it, put it into X2C_WEIGHTS as "
            f"{weights.place} and run `python -m x2c.weights --record`"
        )


def expectations(weights: Weights, path: Path, *, published: bool) -> Iterator[tuple[Path, tuple[str, ...], str]]:
    """Yield each file of a copy that has an expected digest: (file, accepted digests, their source)."""
    listed = _listed(path)
    if path.is_file():
        if listed:
            yield path, (listed[path],), f"{SUMS} in X2C_WEIGHTS"
        elif published and weights.sha256:
            yield path, tuple(weights.sha256.values()), "published"
        return
    for file, digest_ in listed.items():
        yield file, (digest_,), f"{SUMS} in X2C_WEIGHTS"
    for name, digest_ in weights.sha256.items():
        file = path / name
        # A folder that the user has listed may hold the weights in a file of another name.
        if published and file not in listed and (file.is_file() or not listed):
            yield file, (digest_,), "published"


def standing(weights: Weights, path: Path) -> Literal["published", "recorded", "unknown"]:
    """Return the source of a copy's digests: published, recorded in X2C_WEIGHTS, or unknown."""
    listed = _listed(path)
    if path.is_file():
        came = sha256(path, fresh=weights.is_code)
        published, recorded = came in weights.sha256.values(), listed.get(path.absolute()) == came
    else:
        files = {file.name: sha256(file) for file in weight_files(path)}
        published = bool(weights.sha256) and files.items() >= weights.sha256.items()
        recorded = bool(files) and all(listed.get(path.absolute() / name) == came for name, came in files.items())
    return "published" if published else "recorded" if recorded else "unknown"


def source_fingerprint(source: str, name: str = "") -> str:
    """Identify weights independent of their place: a digest of their content, or the one that the hub has published.

    `source` is the value of an asset's option; `name` is the asset, if the default of that option does not name it.
    A source that is neither local nor has a published digest is its own fingerprint.
    """
    weights = WEIGHTS.get(name) or next((w for w in WEIGHTS.values() if w.source == source), None)
    if weights is not None:
        source = resolved_source(weights.name, source)
    path = Path(source.removeprefix("local-dir:")).expanduser()
    if path.is_file():
        return sha256(path)
    if path.is_dir():
        if weights and weights.sha256 and standing(weights, path) == "published":
            return _folder_digest(weights.sha256)
        published = set(weights.sha256) if weights else set[str]()
        files = weight_files(path)
        if published and published <= {file.name for file in files}:
            # Tokenisers and the like, which some copies lack, change nothing.
            files = [file for file in files if file.name in {*published, *CONFIGS}]
        return _folder_digest({file.name: sha256(file) for file in files})
    if weights is None or source != weights.source:
        return source
    # Not here yet: the digest that it will have after the download.
    if weights.kind == "FOLDER":
        return _folder_digest(weights.sha256)
    return next(iter(weights.sha256.values())) if len(weights.sha256) == 1 else source


def check(config: Config) -> None:
    """Raise one UserError that names every needed asset that cannot be had, before any work is done."""
    missing: list[str] = []
    tried = False
    for option, weights, given in needed(config):
        source = resolved_source(weights.name, given)
        if Path(source).expanduser().exists():
            local_copy(weights.name, given)
            continue
        remote = _repository(weights, source) or (weights.url and source == weights.source)
        if remote and not hub.offline() and hub.answers():
            continue
        tried = tried or bool(remote)
        named = f"; no such {weights.kind.lower()}: {source}" if _chosen(weights, given) else ""
        missing.append(f"{weights.name} (--{option}={weights.kind}{named})")
    if missing:
        why = "HF_HUB_OFFLINE is set" if hub.offline() else "the hub does not answer"
        raise UserError(
            f"weights: {', '.join(missing)}: not on this machine{f' and {why}' if tried else ''}; give each option a "
            "local copy or put copies into the folder X2C_WEIGHTS; `python -m x2c.weights` lists each asset and its "
            "place"
        )


def needed(config: Config) -> Iterator[tuple[str, Weights, str]]:
    """Yield every asset that a config uses: (its option here, the asset, the option's value)."""
    used: list[tuple[str, str, Section]] = [(name, slot.name, slot.options) for name, slot in config.slots.items()]
    used += [(f"loss.{name}", network_of(term) or "", term) for name, term in config.loss.terms.items()]
    for path, entry, options in used:
        if weights := asset_of(entry):
            yield f"{path}.source", weights, source_of(options)


def absent(name: str, cause: Exception | str, source: str = "") -> UserError:
    """Return the error for weights that are neither on the hub nor local, or that a library cannot read."""
    weights = WEIGHTS[name]
    reason = " ".join(str(cause).split())[:160]
    return UserError(
        f"{weights.option}: could not load {source or weights.source} ({reason}); "
        f"set --{weights.option}={weights.kind} to a local copy, or put one into X2C_WEIGHTS as {weights.place}"
    )


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder that hold weights, and those beside them that describe the network."""
    return [file for file in sorted(folder.iterdir()) if file.suffix in {*SUFFIXES, ".json"} and file.is_file()]


def _chosen(weights: Weights, option: str) -> bool:
    return option not in ("", weights.source)


def _repository(weights: Weights, source: str) -> str:
    return hub.repository(source) if weights.kind == "FOLDER" else ""


def _provided(weights: Weights) -> Path | None:
    root = weights_folder()
    if root is None:
        return None
    copies = [] if weights.kind == "FOLDER" else [root / f"{weights.name}{suffix}" for suffix in SUFFIXES]
    there = [file for file in copies if file.is_file()]
    if weights.kind != "FILE" and (root / weights.name).is_dir():
        there.append(root / weights.name)
    if len(there) > 1:
        raise UserError(f"X2C_WEIGHTS: expected one copy of {weights.name}; got {', '.join(map(str, there))}; keep one")
    return there[0] if there else None


def _in_hub_cache(weights: Weights) -> Path | None:
    repository = _repository(weights, weights.source)
    if pinned := hub.cached(repository, weights.sha256, weights.revision):
        return pinned
    # Another commit is accepted if its files are the same.
    latest = hub.cached(repository, weights.sha256, "")
    return latest if latest and standing(weights, latest) == "published" else None


def _torch_cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _in_torch_cache(weights: Weights) -> Path | None:
    path = _torch_cache() / Path(weights.url).name
    return path if weights.url and path.is_file() else None


def _fetched(weights: Weights, source: str) -> Path:
    try:
        if repository := _repository(weights, source):
            if source == weights.source:
                return hub.download(repository, weights.sha256, weights.revision)
            return hub.download(repository, ("*.json", "open_clip_model.safetensors", *weights.sha256), "")
        if weights.url and source == weights.source:
            if hub.offline():
                raise OSError("HF_HUB_OFFLINE is set and it is not in torch's cache")
            from torch.hub import download_url_to_file

            path = _torch_cache() / Path(weights.url).name
            path.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(weights.url, str(path), next(iter(weights.sha256.values())))
            return path
    except (OSError, RuntimeError) as error:
        raise absent(weights.name, error, source) from error
    if source != weights.source:
        raise UserError(
            f"{weights.option}: no {weights.kind.lower()} {source}; get {weights.source} and set "
            f"--{weights.option}={weights.kind}"
        )
    raise absent(weights.name, "it is not on this machine")


def _folder_digest(digests: Mapping[str, str]) -> str:
    return digest(dict(digests), 64)


def _listed(path: Path) -> dict[Path, str]:
    """Return the digests that SHA256SUMS of X2C_WEIGHTS lists for a file, or for the files in a folder."""
    root = weights_folder()
    path = path.absolute()
    if root is None or not path.is_relative_to(root):
        return {}
    return {root / name: sha for name, sha in read_sums(root).items() if (root / name).is_relative_to(path)}
