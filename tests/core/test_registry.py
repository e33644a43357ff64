"""Registries: found by reading source, one file adds a choice."""

from __future__ import annotations

import sys

import pytest

from x2c.core.errors import UserError
from x2c.core.registry import LOSS_TERMS, SLOTS, Registry


def test_listing_choices_imports_nothing(tmp_path, monkeypatch):
    package = tmp_path / "family"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text("from reg import R\n@R.register('mine')\nclass Mine: ...\n")
    (package / "broken.py").write_text("import nothing_like_this\n@R.register('broken')\nclass Broken: ...\n")
    (tmp_path / "reg.py").write_text("from x2c.core.registry import Registry\nR = Registry('thing', 'family')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = __import__("reg").R
    assert registry.names() == ("broken", "mine")
    assert "family.mine" not in sys.modules
    assert registry.get("mine").__name__ == "Mine"
    with pytest.raises(UserError, match=r"thing: unknown thing 'main'; did you mean 'mine'\? choices: broken, mine"):
        registry.get("main")


def test_a_name_registered_twice_is_an_error(tmp_path, monkeypatch):
    package = tmp_path / "twice"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("a", "b"):
        (package / f"{name}.py").write_text("@R.register('same')\nclass X: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"twice\.a and twice\.b"):
        Registry("thing", "twice").names()


@pytest.mark.parametrize(
    ("registry", "name"),
    [(registry, name) for registry in (*SLOTS.values(), LOSS_TERMS) for name in registry.names()],
    ids=lambda value: value if isinstance(value, str) else value.slot,
)
def test_every_entry_has_options_and_a_docstring(registry, name):
    entry = registry.get(name)
    assert entry.__doc__
    for field, info in entry.Options.model_fields.items():
        assert info.annotation is not None, field
