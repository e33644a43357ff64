"""Resolution of names to a validated Config: base <- scale <- variant <- the scale's stand-ins <- command line."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from x2c.core.config import (
    DATA_ROLES,
    Config,
    DataOptions,
    GuidanceOptions,
    Loss,
    SamplerOptions,
    Section,
    Slot,
    Stage,
    Stages,
    TermOptions,
)
from x2c.core.errors import FileError, UserError, nearest, unknown
from x2c.core.given import Unquoted, read_value
from x2c.core.guesses import meant
from x2c.core.registry import DATASETS, LOSS_TERMS, PERCEPTUAL, SLOTS
from x2c.core.script import PROJECT
from x2c.core.seeding import SEEDS, is_seed
from x2c.core.slot import network_of
from x2c.core.yaml_text import RepeatedKeyError, line_of, load_yaml

EXPERIMENTS = PROJECT / "experiments"
RESERVED = {"variant", "scale", "seed"}
"""Fields that identify the config; each is set by an option of its own."""
OPTIONS: dict[str, type[Section]] = {
    **dict.fromkeys(DATA_ROLES, DataOptions),
    "guidance": GuidanceOptions,
    "sampler": SamplerOptions,
}
"""By slot: what the options of its entries derive from, where that is more than Section."""
LOSS_ALIASES = {"full": "l1_lpips_adv_cls"}
Layer = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def variants() -> tuple[str, ...]:
    """Names of all variants: the files of experiments/."""
    return tuple(name for name in _files_of(EXPERIMENTS, EXPERIMENTS.stat().st_mtime_ns) if name != "base")


def scales() -> tuple[str, ...]:
    """Names of all scales: the files of experiments/scales/."""
    folder = EXPERIMENTS / "scales"
    return _files_of(folder, folder.stat().st_mtime_ns)


@cache
def _files_of(folder: Path, _changed_ns: int) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def resolve(variant: str, scale: str = "cpu", seed: int = 0, overrides: Iterable[str] = ()) -> Config:
    """Return the validated config of a variant.

    `overrides` are `a.b=c` strings, values in YAML; `data=NAME` sets all data sets of the variant, each with the size
    and window of its role, and may be the folder of a prepared one. Raises UserError naming the dotted path, what was
    got, the nearest name and the choices.
    """
    if Path(variant).suffix == ".yaml" and Path(variant).resolve().parent == EXPERIMENTS:
        # A variant may be given as the path of its file, as shell completion writes it.
        variant = Path(variant).stem
    if variant not in variants():
        raise unknown("--variant", "variant", variant, variants())
    if scale not in scales():
        raise unknown("--scale", "scale", scale, scales())
    if not is_seed(seed):
        raise UserError(f"--seed: expected {SEEDS}; got {seed!r}; give another")
    scaled = read_yaml(EXPERIMENTS / "scales" / f"{scale}.yaml")
    stand_ins = scaled.pop("stand_ins", {})
    row = read_yaml(EXPERIMENTS / f"{variant}.yaml")
    asked: Layer = {}
    for override in overrides:
        asked = merge(asked, parse_override(override))
    data = asked.pop("data", None)
    chosen = merge(row, asked)
    for reserved in RESERVED & chosen.keys():
        raise UserError(f"{reserved}: given once, by --{reserved}; not in experiments/{variant}.yaml or twice")
    _refuse_joined_terms()
    written = _stand_in(merge(merge(read_yaml(EXPERIMENTS / "base.yaml"), scaled), row), stand_ins)
    merged = written if data is None else merge(written, _everywhere(data))
    named = {"variant": variant, "scale": scale, "seed": seed}
    try:
        return _validate({**merge(merged, asked), **named}, chosen)
    except FileError:
        raise
    except UserError as error:
        alone = error if data is None and not asked else _complaint({**written, **named}, row)
        if str(alone) != str(error):
            raise
        raise UserError(f"{_place(variant, str(error).partition(':')[0])}: {error}") from None


def _complaint(raw: Layer, chosen: Layer) -> UserError | None:
    """Return the error of a variant's own file, resolved without the command line's overrides; None if it has none."""
    try:
        _validate(raw, chosen)
    except UserError as error:
        return error
    return None


def _place(variant: str, path: str) -> str:
    """Return the file of a variant, with the line of a dotted path if the file has it."""
    line = line_of((EXPERIMENTS / f"{variant}.yaml").read_text(encoding="utf-8"), path.split("."))
    return f"experiments/{variant}.yaml" + (f":{line}" if line else "")


def _refuse_joined_terms() -> None:
    """Raise UserError for a loss term whose name contains `_`: no variant could use it."""
    for term in LOSS_TERMS.names():
        if "_" in term:
            raise UserError(f"loss: term {term!r}: '_' joins terms; register it under a name without one")


def read_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Return the config in a resolved config.yaml, with `overrides` as in `resolve`.

    Raises UserError naming the file if this version cannot build it, and naming the dotted path if an override is
    wrong.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a run's resolved config; no such file; give a run directory of x2c")
    return resolved(read_yaml(path), str(path), overrides)


def resolved(written: Layer, where: str, overrides: Iterable[str] = (), *, detached: bool = False) -> Config:
    """Return the config of resolved values, read from `where`, with `overrides` as in `resolve`.

    `detached`: data sets are taken as written, without access to their folders, which may be on another machine.
    Raises UserError as `read_config` does.
    """
    _refuse_joined_terms()
    try:
        config = _validate(written, written, detached)
    except UserError as error:
        raise UserError(f"{where}: not a config that this version of x2c can build: {error}") from None
    asked: Layer = {}
    for override in overrides:
        asked = merge(asked, parse_override(override))
    return _validate(merge(written, asked), asked, detached) if asked else config


def read_yaml(path: Path) -> Layer:
    """Return a YAML file's mapping, empty for an empty file; the caller may change it."""
    status = path.stat()
    layer: Layer = pickle.loads(_parsed(path, status.st_mtime_ns, status.st_size))
    return layer


@cache
def _parsed(path: Path, _changed_ns: int, _size: int) -> bytes:
    """Return the content pickled, which is the fastest copy: a sweep of thousands of cells reads the same few files."""
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except RepeatedKeyError as error:
        raise UserError(
            f"{path}:{error.line}: {error.key}: expected once; got it again, after line {error.first}; remove one"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict | None):
        raise UserError(f"{path}: expected `key: value` lines; got {type(content).__name__}")
    return pickle.dumps(content or {})


def parse_override(text: str) -> Layer:
    """Parse `loss.lpips.weight=0.02` to {"loss": {"lpips": {"weight": 0.02}}}, unquoted numbers as `Unquoted`."""
    path, equals, value = text.lstrip("-").partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path):
        raise UserError(f"{text}: expected --a.b=value")
    try:
        layer = read_value(value)
    except RepeatedKeyError as error:
        raise UserError(f"{path}.{error.key}: expected once; got it twice in {value!r}; remove one") from None
    *parents, last = path.split(".")
    nested: Layer = {last: layer}
    for key in reversed(parents):
        nested = {key: nested}
    return nested


def _stand_in(layer: Layer, stand_ins: Layer) -> Layer:
    """Return the layer with this scale's stand-ins: `{slot: {pretrained entry: its stand-in}}`."""
    replaced = dict(layer)
    for slot, entries in stand_ins.items():
        named = _by_name(layer[slot])
        replaced[slot] = _by_name(entries.get(named["name"], named))
    return replaced


def merge(lower: Layer, upper: Layer) -> Layer:
    """Return `upper` merged over `lower`. A slot given another name starts from that entry's own defaults."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if key in DATA_ROLES:
            value, below = _data(value), _data(below)
        elif key in SLOTS or key == "loss":
            value, below = _by_name(value), _by_name(below)
        elif key == "stages":
            value, below = _by_order(value), _by_order(below)
        renamed = key in SLOTS and isinstance(below, dict) and isinstance(value, dict) and _renames(below, value)
        if renamed:
            below = _shared_options(below, value["name"]) if key in DATA_ROLES else None
        merged[key] = _deep(below, value)
    return merged


def _everywhere(data: Any) -> Layer:
    """Return one data set in all roles; a prepared one not as `finetuning`, which must name another cohort."""
    layer = {role: _data(data) for role in DATA_ROLES}
    if not isinstance(data, str) or data not in DATASETS.names():
        layer["finetuning"] = {**_mapping("data", layer["finetuning"]), "folder": ""}
    return layer


def _data(value: Any) -> Any:
    """Expand a data set's short form: its name, or the folder of a prepared one."""
    if isinstance(value, str) and value not in DATASETS.names() and (os.sep in value or Path(value).is_dir()):
        return {"name": "prepared", "folder": value}
    return _by_name(value)


def _shared_options(below: Any, name: str) -> Layer:
    """Return the options that another data set in the same role keeps: size, window and kind of radiographs."""
    fields = DATASETS.options(name).model_fields
    return {key: value for key, value in below.items() if key in fields}


def _deep(below: Any, value: Any) -> Any:
    """Merge `value` over `below`, mapping by mapping."""
    if not (isinstance(below, dict) and isinstance(value, dict)):
        return value
    return {**below, **{key: _deep(below.get(key), inner) for key, inner in value.items()}}


def _renames(below: Layer, value: Layer) -> bool:
    return "name" in below and value.get("name", below["name"]) != below["name"]


def _by_name(value: Any) -> Any:
    """Expand a slot's short form `encoder: biomedclip` to a mapping."""
    return {"name": value} if isinstance(value, str) else value


def _by_order(value: Any) -> Any:
    """Expand the short form `stages: [ctpa, xray]` to a mapping."""
    return {"order": value} if isinstance(value, list) else value


def _validate(raw: Layer, chosen: Layer, detached: bool = False) -> Config:
    stages = _stages(_mapping("stages", raw.get("stages")), chosen.get("stages", {}))
    used = {stage.data for stage in stages.each.values()} | {"dataset"}
    unused = {"pretraining", "finetuning"} - used
    for slot in sorted(unused & chosen.keys()):
        raise UserError(f"{slot}: no stage uses it (stages: {', '.join(stages.each)}); remove it or set --stages.order")
    built = {key: value for key, value in raw.items() if key not in unused} | {"stages": stages}
    for slot, registry in SLOTS.items():
        if slot in unused:
            continue
        entry = _mapping(slot, raw.get(slot))
        name = str(entry.pop("name", ""))
        if name == "prepared" and not entry.get("folder") and not detached:
            raise UserError(f"{slot}.folder: expected a prepared data set; got none; give --{slot}=FOLDER")
        options = _section(registry.options(name, OPTIONS.get(slot, Section)), entry, slot, detached)
        built[slot] = Slot(name=name, options=options)
    built["loss"] = _loss(_mapping("loss", raw.get("loss")), chosen.get("loss", {}))
    config = _section(Config, built, "")
    _cross_check(config)
    return config


def _stages(raw: Layer, chosen: Layer | list[str]) -> Stages:
    order, start = raw.pop("order", []), raw.pop("start", "")
    start = start.of(str) if isinstance(start, Unquoted) else start
    if not isinstance(start, str):
        raise UserError(f"stages.start: expected a file of weights; got {start!r}; put its name in quotes")
    if not isinstance(order, list) or not order or len(set(map(str, order))) < len(order):
        raise UserError(f"stages.order: expected a list of different stages; got {order!r}; known: {', '.join(raw)}")
    for name in map(str, order):
        if name not in raw:
            raise unknown("stages.order", "stage", name, raw)
    asked = set(chosen) - {"order", "start"} if isinstance(chosen, dict) else set[str]()
    for stray in sorted(asked - set(order)):
        hint = meant(f"stages.{stray}")
        raise UserError(f"stages.{stray}: not among this variant's stages {order}; {nearest(stray, order, hint)}")
    each = {name: _section(Stage, _mapping(f"stages.{name}", raw[name]), f"stages.{name}") for name in order}
    return Stages(start=start, each=each)


def _loss(raw: Layer, chosen: Layer | str) -> Loss:
    name = str(raw.pop("name", ""))
    names, known = LOSS_ALIASES.get(name, name).split("_"), LOSS_TERMS.names()
    for stray in (term for term in names if term not in known):
        raise UserError(
            f"loss: expected a known term; got {stray!r} in {name!r}; {nearest(stray, known)}; join terms with '_' "
            f"or take {', '.join(LOSS_ALIASES)}"
        )
    if len(set(names)) < len(names):
        raise UserError(f"loss: expected different terms; got {name!r}; name each once")
    asked = set(chosen) - {"name"} if isinstance(chosen, dict) else set[str]()
    for stray in sorted(asked - set(names)):
        raise UserError(f"loss.{stray}: loss {name!r} has no term {stray!r}; {nearest(stray, names)}")
    terms: dict[str, TermOptions] = {
        term: _section(LOSS_TERMS.options(term), _mapping(f"loss.{term}", raw.get(term, {})), f"loss.{term}")
        for term in names
    }
    return Loss(name=name, terms=terms)


def _cross_check(config: Config) -> None:
    for name, stage in config.stages.each.items():
        kind = config.data(stage.data).options.radiographs
        if stage.condition not in ("none", kind):
            raise UserError(
                f"stages.{name}.condition: {stage.data} has radiographs of kind {kind!r}; got {stage.condition!r}; "
                f"set --stages.{name}.condition={kind} or --{stage.data}.radiographs={stage.condition}"
            )
        terms = config.terms_of(stage)
        if len(set(terms)) < len(terms):
            raise UserError(f"stages.{name}.loss: expected different terms; got {stage.loss!r}; name each once")
        for stray in (term for term in terms if term not in config.loss.terms):
            raise UserError(
                f"stages.{name}.loss: expected l1, variant or terms of loss {config.loss.name!r} joined by '_'; "
                f"got {stage.loss!r}; set --stages.{name}.loss=l1 or take a loss with {stray!r}"
            )
        if "cls" in terms and stage.data != "dataset":
            raise UserError(
                f"stages.{name}.loss: the classifier of loss term 'cls' is trained on dataset; this stage has {stage.data}; "
                f"set --stages.{name}.loss=l1 or take a loss without cls"
            )
        if stage.lora_rank and name == next(iter(config.stages.each)) and not config.stages.start:
            raise UserError(
                f"stages.{name}.lora_rank: adapters need trained weights to start from; "
                "put a stage before it or set --stages.start=FILE"
            )
        if stage.lora_rank and stage is not config.stages.last:
            raise UserError(
                f"stages.{name}.lora_rank: only the last stage can train adapters; got {stage.lora_rank}; use 0"
            )
    name, last = list(config.stages.each.items())[-1]
    if last.condition == "none":
        raise UserError(f"stages.{name}.condition: the last stage is what is scored; expected xray or drr; got none")
    if config.prediction.name == "eps" and config.diffusion.x0_weight == "uniform" and len(config.loss.terms) > 1:
        raise UserError(
            "diffusion.x0_weight: 'uniform' explodes with prediction 'eps' (1/√ᾱ is 6·10⁴ at t=999); use 'alpha_bar'"
        )
    network = network_of(config.loss.terms.get("lpips"))
    if network is not None and network not in PERCEPTUAL.names():
        raise unknown("loss.lpips.network", "perceptual network", network, PERCEPTUAL.names())
    if config.training.mixed_precision == "fp16" and (config.compute.cpu or "adv" in config.loss.terms):
        raise UserError("training.mixed_precision: 'fp16' needs a GPU and a loss without 'adv'; use 'no' or 'bf16'")
    if (steps := config.sampler.options.steps) > config.diffusion.num_train_timesteps:
        most = config.diffusion.num_train_timesteps
        raise UserError(f"sampler.steps: at most diffusion.num_train_timesteps = {most}; got {steps}")


def _mapping(path: str, value: Any) -> Layer:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a name or a mapping; got {value!r}")
    return dict(value)


def _section(model: type[Model], values: Mapping[str, Any], path: str, detached: bool = False) -> Model:
    """Validate `values` as a `model`; the first complaint becomes one line with its dotted path."""
    try:
        return model.model_validate(dict(values), context={"detached": detached})
    except ValidationError as error:
        # A misspelt required key is also missing: the unknown key is the better message.
        first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
        location = [str(part) for part in first["loc"]]
        where = ".".join([*([path] if path else []), *location])
        if first["type"] == "extra_forbidden":
            fields = _fields_at(model, location[:-1])
            raise unknown(where, "key", location[-1], fields, meant(where)) from None
        if first["type"] == "missing":
            raise UserError(f"{where}: expected a value; got none; give --{where}=VALUE") from None
        # Messages of our own validators, without pydantic's prefix.
        said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].lower()
        raise UserError(f"{where}: {said}; got {first['input']!r}") from None


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        kinds = [model.model_fields[part].annotation]
        kinds += list(getattr(kinds[0], "__args__", ()))
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section))
    return list(model.model_fields)
