"""Validated reading of files that anything may have been written to.

A file that cannot be used raises UnreadableError, whose one line names the file, the field, and what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

_DEPTH, _BITS = 32, 64
"""Limits on levels of nesting and bits of an integer in a file: no run has more, and printing more could fail."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXPECTED = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "too_short": "a list that is not empty",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of fewer characters",
    "string_pattern_mismatch": "HEIGHTxWIDTHxDEPTH in voxels",
}
"""Descriptions of the expected value, by pydantic's kind of error, in the terms of the files."""


class UnreadableError(Exception):
    """A file that cannot be used: `FILE: reason` in a line."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {short(reason)}")


def short(text: str, most: int = 160) -> str:
    """Text in one line, cut where it is long."""
    line = str(one_line(" ".join(text.split())))
    return line if len(line) <= most else line[: most - 1] + "…"


def one_line(tree: Any) -> Any:
    """Return a tree of options with each control character and lone surrogate replaced: they would break a table."""
    if isinstance(tree, str):
        # A text without such characters stays as it is: paths may hold spaces.
        found = _CONTROL.search(tree) or _SURROGATE.search(tree)
        return _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", tree)).strip() if found else tree
    if isinstance(tree, Mapping):
        return {key: one_line(value) for key, value in tree.items()}
    return [one_line(value) for value in tree] if isinstance(tree, list) else tree


class Loose(BaseModel):
    """A base of models with typed fields that accepts and ignores other fields."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


def existing_file(path: Path) -> Path:
    """Return the path of an existing file. Raises UnreadableError."""
    if not path.is_file():
        raise UnreadableError(path.name, "expected a file; got something else" if path.exists() else "absent")
    return path


def read_tree(path: Path, language: str, load: Callable[[str], Any]) -> Any:
    """Return the content of a text file: names, numbers and texts that can be written again. Raises UnreadableError."""
    try:
        tree = load(existing_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(path.name, f"cannot be read ({error.strerror})") from None
    except RecursionError:
        raise UnreadableError(path.name, f"is nested more than {_DEPTH} levels deep") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UnreadableError(path.name, f"expected {language}; got something else ({error})") from None
    if not isinstance(tree, dict):
        raise UnreadableError(path.name, f"expected a mapping; got {got(tree)}")
    _refuse_odd(path.name, tree)
    return tree


def _refuse_odd(file: str, tree: Mapping[Any, Any]) -> None:
    """Raise UnreadableError for deep nesting, keys that are not text, huge integers, and unencodable text."""
    level: list[Any] = [tree]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        inner: dict[int, Any] = {}
        for one in level:
            if odd := [key for key in one if not isinstance(key, str)] if isinstance(one, Mapping) else []:
                raise UnreadableError(file, f"expected names of options as keys; got {got(odd[0])}")
            for value in [*one.keys(), *one.values()] if isinstance(one, Mapping) else one:
                if isinstance(value, int) and value.bit_length() > _BITS:
                    raise UnreadableError(file, f"expected numbers of at most {_BITS} bits; got a larger one")
                if isinstance(value, str) and _SURROGATE.search(value):
                    raise UnreadableError(file, "expected text; got half of a character (a lone surrogate)")
                # YAML aliases repeat the same object; it is checked once.
                if isinstance(value, Mapping | list) and id(value) not in seen:
                    inner[id(value)] = value
        seen |= inner.keys()
        level = list(inner.values())
        if not level:
            return
    raise UnreadableError(file, f"is nested more than {_DEPTH} levels deep")


def checked(file: str, validate: Callable[[Any], Any], tree: Any) -> Any:
    """Return the tree validated by pydantic's `validate`. Raises UnreadableError with the first complaint."""
    try:
        return validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # `each` holds the keys beside `order` or `name` in the file.
    where = ".".join(str(part) for part in first["loc"] if part != "each")
    if first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
    elif first["type"] == "missing":
        said = "expected a value; got none"
    else:
        wanted = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ")
        said = f"expected {wanted}; got {got(first['input'])}"
    raise UnreadableError(file, f"{where}: {said}" if where else said)


def got(value: Any) -> str:
    """Describe the value that was found, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{short(value, 40)}"'
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) or value.bit_length() <= _BITS else "a huge number"
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else type(value).__name__
