"""The text of `--help-config`: every field of the configuration with its type, its value, and its documentation."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from x2c.core.config import AnySlot, Config, Loss, Stages
from x2c.core.errors import unknown
from x2c.core.registry import LOSS_TERMS, SLOTS, Registry

WIDTH = 100
INDENT = "    "
_BOUNDS = {
    "exclusiveMinimum": "more than {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "maximum": "at most {}",
    "multipleOf": "a multiple of {}",
}


@dataclass(frozen=True)
class Line:
    """A field, or an option of an entry that the variant does not use."""

    path: str
    """Dotted path, as in `--a.b=value`."""
    kind: str
    value: str
    """Value in the configuration; for an entry that it does not use, the default. Empty if there is none."""
    about: str
    choice: str = ""
    """The entry that has the option, if the configuration uses another; else empty."""


def config_help(config: Config, below: str = "") -> str:
    """Return the help on all fields, or on those below a dotted path. Raises UserError for an unknown path."""
    lines = list(fields(config))
    chosen = [line for line in lines if not below or f"{line.path}.".startswith(f"{below}.")]
    if not chosen:
        section = below.partition(".")[0]
        inside = {line.path for line in lines if line.path.startswith(f"{section}.")}
        raise unknown("--help-config", "field", below, sorted(inside or {line.path.split(".")[0] for line in lines}))
    head = f"fields of {config.variant} at scale {config.scale}, each given as --field=value"
    return "\n".join([head, *_shown(chosen)])


def fields(config: Config) -> Iterator[Line]:
    """Yield all fields of a configuration, in the order of its files."""
    properties = Config.model_json_schema()["properties"]
    for name, value in config:
        about = properties[name].get("description", "")
        if name in ("variant", "scale", "seed", "table2"):
            continue
        if name == "loss":
            yield from _loss(value, about)
        elif name in SLOTS:
            yield from _slot(name, SLOTS[name], value, about)
        elif isinstance(value, Stages):
            yield from _stages(value, about)
        else:
            yield from section_fields(name, type(value), value)


def section_fields(path: str, kind: type[BaseModel], values: BaseModel | None, choice: str = "") -> Iterator[Line]:
    """Yield the fields of a block below a dotted path, with the block's values or the defaults."""
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        inner = field.annotation
        value = getattr(values, name) if values is not None else field.get_default(call_default_factory=True)
        about = schema["properties"][name].get("description", "")
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from section_fields(f"{path}.{name}", inner, value if isinstance(value, BaseModel) else None, choice)
            continue
        shown = "" if values is None and field.is_required() else _text(value)
        yield Line(f"{path}.{name}", _kind(schema["properties"][name]), shown, about, choice)


def _slot(path: str, registry: Registry, slot: AnySlot | None, about: str) -> Iterator[Line]:
    chosen = slot.name if slot else ""
    yield Line(path, f"one of {', '.join(registry.names())}", chosen or "null", about)
    own = list(section_fields(path, type(slot.options), slot.options)) if slot is not None else []
    yield from own
    seen = {(line.path, line.about) for line in own}
    for name in registry.names():
        # An option that several entries have is listed once.
        for line in section_fields(path, registry.options(name), None, name):
            if (line.path, line.about) not in seen:
                seen.add((line.path, line.about))
                yield line


def _loss(loss: Loss, about: str) -> Iterator[Line]:
    names = LOSS_TERMS.names()
    yield Line("loss", f"terms of {', '.join(names)}, joined by _", loss.name, about)
    for name in names:
        values = loss.terms.get(name)
        yield from section_fields(f"loss.{name}", LOSS_TERMS.options(name), values, "" if values else name)


def _stages(stages: Stages, about: str) -> Iterator[Line]:
    order = list(stages.each)
    yield Line("stages", "list of stages", ", ".join(order), f"{about} The list chooses them and their order.")
    start = Stages.model_json_schema()["properties"]["start"]
    yield Line("stages.start", _kind(start), _text(stages.start), start["description"])
    for name, stage in stages.each.items():
        yield from section_fields(f"stages.{name}", type(stage), stage)


def _shown(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the text of the lines. Documentation that several share, such as all stages, is printed with the first."""
    told: set[str] = set()
    for line in lines:
        where = f" (of {line.choice})" if line.choice else ""
        value = f" = {line.value}" if line.value else ""
        yield f"{line.path}{where}{value}  [{line.kind}]"
        if line.about and line.about not in told:
            told.add(line.about)
            yield textwrap.fill(" ".join(line.about.split()), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def _kind(schema: dict[str, Any]) -> str:
    """Describe the type of a value in words, from its JSON schema."""
    if "anyOf" in schema:
        return ", or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(_text, schema['enum']))}"
    if schema.get("type") == "array":
        # A list has a fixed length if its schema describes each item.
        items = schema.get("prefixItems") or [schema["items"]]
        count = f" of {len(items)}" if "prefixItems" in schema else ""
        return f"list{count}, each a {_kind(items[0])}"
    names = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
        "null": "null",
    }
    bounds = [words.format(f"{schema[key]:g}") for key, words in _BOUNDS.items() if key in schema]
    pattern = [f"like {schema['pattern']}"] if "pattern" in schema else []
    return (
        " ".join([names.get(schema.get("type", ""), "value"), " and ".join(bounds), *pattern])
        .replace("  ", " ")
        .strip()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)
