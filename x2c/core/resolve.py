"""From names to a validated Config: base <- scale <- variant <- command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from x2c.core.config import Config, Loss, Section, Slot, TermOptions
from x2c.core.errors import UserError, nearest, unknown
from x2c.core.registry import LOSS_TERMS, PERCEPTUAL, SLOTS
from x2c.core.script import PROJECT

EXPERIMENTS = PROJECT / "experiments"
LOSS_ALIASES = {"full": "l1_lpips_adv_cls"}
Layer = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def variants() -> tuple[str, ...]:
    """Names of all variants: the files of experiments/."""
    return tuple(sorted(p.stem for p in EXPERIMENTS.glob("*.yaml") if p.stem != "base"))


def scales() -> tuple[str, ...]:
    """Names of all scales: the files of experiments/scales/."""
    return tuple(sorted(p.stem for p in (EXPERIMENTS / "scales").glob("*.yaml")))


def resolve(variant: str, scale: str = "cpu", seed: int = 0, overrides: Iterable[str] = ()) -> Config:
    """The validated config of a variant.

    `overrides` are `a.b=c` strings, values in YAML. Raises UserError naming the dotted path, what came, the nearest
    name and the choices.
    """
    if variant not in variants():
        raise unknown("--variant", "variant", variant, variants())
    if scale not in scales():
        raise unknown("--scale", "scale", scale, scales())
    defaults = _merge(read_yaml(EXPERIMENTS / "base.yaml"), read_yaml(EXPERIMENTS / "scales" / f"{scale}.yaml"))
    chosen: Layer = read_yaml(EXPERIMENTS / f"{variant}.yaml")
    for override in overrides:
        chosen = _merge(chosen, parse_override(override))
    for reserved in {"variant", "scale", "seed"} & chosen.keys():
        raise UserError(f"{reserved}: given once, by --{reserved}; not in experiments/{variant}.yaml or twice")
    merged = _merge(defaults, chosen)
    return _validate({**merged, "variant": variant, "scale": scale, "seed": seed}, chosen)


def read_yaml(path: Path) -> Layer:
    """A YAML file that must hold a mapping (or nothing)."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines; found {type(content).__name__}")
    return dict(content)


def parse_override(text: str) -> Layer:
    """`loss.lpips.weight=0.02` -> {"loss": {"lpips": {"weight": 0.02}}}."""
    path, equals, value = text.lstrip("-").partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path):
        raise UserError(f"{text}: expected --a.b=value")
    try:
        layer = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"{path}: {value!r} is not a YAML value; quote it") from None
    *parents, last = path.split(".")
    nested: Layer = {last: layer}
    for key in reversed(parents):
        nested = {key: nested}
    return nested


def _merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` over `lower`. A slot given another name starts from that entry's own defaults."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if key in SLOTS or key == "loss":
            value, below = _by_name(value), _by_name(below)
        if isinstance(value, dict) and isinstance(below, dict) and not (key in SLOTS and _renames(below, value)):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _renames(below: Layer, value: Layer) -> bool:
    return "name" in below and value.get("name", below["name"]) != below["name"]


def _by_name(value: Any) -> Any:
    """A slot's short form `encoder: biomedclip` as a mapping."""
    return {"name": value} if isinstance(value, str) else value


def _validate(raw: Layer, chosen: Layer) -> Config:
    built = dict(raw)
    for slot, registry in SLOTS.items():
        entry = _mapping(slot, raw.get(slot))
        name = str(entry.pop("name", ""))
        options = _section(registry.get(name).Options, entry, slot)
        built[slot] = Slot(name=name, options=options)
    built["loss"] = _loss(_mapping("loss", raw.get("loss")), chosen.get("loss", {}))
    config = _section(Config, built, "")
    _cross_check(config)
    return config


def _loss(raw: Layer, chosen: Layer | str) -> Loss:
    name = str(raw.pop("name", ""))
    names = LOSS_ALIASES.get(name, name).split("_")
    if len(set(names)) < len(names) or not set(names) <= set(LOSS_TERMS.names()):
        known = ", ".join(LOSS_TERMS.names())
        raise UserError(
            f"loss: unknown loss {name!r}; join terms with '_' (terms: {known}) or take {', '.join(LOSS_ALIASES)}"
        )
    asked = set(chosen) - {"name"} if isinstance(chosen, dict) else set[str]()
    for stray in sorted(asked - set(names)):
        raise UserError(f"loss.{stray}: loss {name!r} has no term {stray!r}; {nearest(stray, names)}")
    terms: dict[str, TermOptions] = {
        term: _section(LOSS_TERMS.get(term).Options, _mapping(f"loss.{term}", raw.get(term, {})), f"loss.{term}")
        for term in names
    }
    return Loss(name=name, terms=terms)


def _cross_check(config: Config) -> None:
    if config.window.low_hu >= config.window.high_hu:
        raise UserError(
            f"window: low_hu must lie below high_hu; came {config.window.low_hu} and {config.window.high_hu}"
        )
    if config.prediction.name == "eps" and config.diffusion.x0_weight == "uniform" and len(config.loss.terms) > 1:
        raise UserError(
            "diffusion.x0_weight: 'uniform' explodes with prediction 'eps' (1/√ᾱ is 6·10⁴ at t=999); use 'alpha_bar'"
        )
    network = getattr(config.loss.terms.get("lpips"), "network", None)
    if network is not None and network not in PERCEPTUAL.names():
        raise unknown("loss.lpips.network", "perceptual network", network, PERCEPTUAL.names())
    if config.training.mixed_precision == "fp16" and (config.compute.cpu or "adv" in config.loss.terms):
        raise UserError("training.mixed_precision: 'fp16' needs a GPU and a loss without 'adv'; use 'no' or 'bf16'")
    if (steps := getattr(config.sampler.options, "steps", 1)) > config.diffusion.num_train_timesteps:
        most = config.diffusion.num_train_timesteps
        raise UserError(f"sampler.steps: at most diffusion.num_train_timesteps = {most}; came {steps}")


def _mapping(path: str, value: Any) -> Layer:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a name or a mapping; came {value!r}")
    return dict(value)


def _section(model: type[Model], values: Mapping[str, Any], path: str) -> Model:
    """`values` as a `model`; the first complaint becomes one line with its dotted path."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(part) for part in first["loc"]]
        where = ".".join([*([path] if path else []), *location])
        if first["type"] == "extra_forbidden":
            raise unknown(where, "key", location[-1], _fields_at(model, location[:-1])) from None
        if first["type"] == "missing":
            raise UserError(f"{where}: a value is needed; none came; give --{where}=VALUE") from None
        raise UserError(f"{where}: {first['msg'].lower()}; came {first['input']!r}") from None


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        kinds = [model.model_fields[part].annotation]
        kinds += list(getattr(kinds[0], "__args__", ()))
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section))
    return list(model.model_fields)
