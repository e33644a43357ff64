"""Parsing of values on the command line: YAML, except that a text field gets the text exactly as typed.

YAML cuts off ` #` and what follows, strips spaces, and reads `2024-05-01` as a date; a path may contain any of these.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from x2c.core.yaml_text import FAST_LOADER, RepeatedKeyError, load_yaml


@dataclass(frozen=True)
class Unquoted:
    """A value that YAML reads as a number, boolean, date or null, but may be meant as text; the field decides."""

    value: Any
    text: str | None
    """The text as typed; None if it says null, ~ or None."""

    def __repr__(self) -> str:
        return repr(self.value)

    def __str__(self) -> str:
        return str(self.text)

    def __bool__(self) -> bool:
        return bool(self.text)

    def of(self, kind: Any) -> Any:
        """Return the value for a field of this type."""
        return self.text if kind is str else self.value


# It also takes Python's None as null: W&B's agent writes values as Python does.
_Loader: Any = type("_Loader", (FAST_LOADER,), {})
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])


def read_value(text: str) -> Any:
    """Return the value of a command-line text; text that is not YAML stays text. Raises RepeatedKeyError."""
    if text.startswith('"'):
        # PyYAML reads the two halves of JSON's `\ud83d\ude00` as two characters, both invalid.
        try:
            return json.loads(text)
        except ValueError:
            pass
    try:
        node, value = yaml.compose(text, Loader=_Loader), load_yaml(text, _Loader)
    except RepeatedKeyError:
        raise
    except (yaml.YAMLError, ValueError):
        return text
    if node is None:
        return text if text.strip() else Unquoted(None, text)
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return value
    return text if isinstance(value, str) else Unquoted(value, None if value is None else text)
