"""YAML with strict keys: a key that occurs twice in one mapping is an error, where PyYAML takes the last one."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader, in C where PyYAML was built with it."""


class RepeatedKeyError(yaml.YAMLError):
    """A key that occurs twice in one mapping."""

    def __init__(self, key: str, line: int, first: int) -> None:
        super().__init__(f"line {line}: {key}: expected once; got it again, after line {first}; remove one")
        self.key = key
        """Dotted path of the key."""
        self.line = line
        """Line of the second occurrence, counted from 1."""
        self.first = first
        """Line of the first occurrence."""


def load_yaml(text: str, loader_class: Any = FAST_LOADER) -> Any:
    """The content of a YAML text.

    Raises yaml.YAMLError for invalid YAML, RepeatedKeyError included, and ValueError for a scalar that looks like a
    date or a number but is not one.
    """
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Checked before construction: a merge (`<<`) copies other mappings' keys into a node, where they may repeat.
        _refuse_repeated(loader, node, "", set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def quoted(value: Any) -> str:
    """Return a value as JSON that is also YAML: characters that YAML rejects, such as a line separator, are escaped."""
    # JSON escapes characters beyond U+FFFF as pairs, which YAML does not join.
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """Return the line, from 1, of the last of nested keys in a YAML text; None if it has none of them."""
    node, line = yaml.compose(text, Loader=FAST_LOADER), None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found = [(name, value) for name, value in pairs if name.value == key]
        if not found:
            break
        (name, node), *_ = found
        line = name.start_mark.line + 1
    return line


def _refuse_repeated(loader: Any, node: yaml.Node, path: str, seen: set[int]) -> None:
    # An alias is the same node again, and may lie inside of itself.
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(loader, item, path, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[Any, int] = {}
    for key_node, value_node in node.value:
        inner = path
        if isinstance(key_node, yaml.ScalarNode):
            key, line = _key(loader, key_node), key_node.start_mark.line + 1
            inner = f"{path}.{key_node.value}" if path else str(key_node.value)
            if key in lines:
                raise RepeatedKeyError(inner, line, lines[key])
            lines[key] = line
        _refuse_repeated(loader, value_node, inner, seen)


def _key(loader: Any, node: yaml.ScalarNode) -> Hashable:
    """Return the key as a dict holds it: `yes` and `true` are one key."""
    key = None if node.tag == "tag:yaml.org,2002:merge" else loader.construct_object(node)
    return key if key is not None and isinstance(key, Hashable) else (node.tag, node.value)
