"""Registries: found by reading source, one file adds a choice."""

from __future__ import annotations

import sys

import pytest

from x2c.core.config import GuidanceOptions
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
    with pytest.raises(
        UserError, match=r"thing: expected a known thing; got 'main'; did you mean 'mine'\? choices: broken, mine"
    ):
        registry.get("main")


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A registry `family` of a package to which files are written: `write(file, text)`."""
    package = tmp_path / "family"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "family"]:
        monkeypatch.delitem(sys.modules, name)
    registry = Registry("thing", "family")
    monkeypatch.setattr("x2c.core.registry.FEATURES", registry)

    def write(file, text):
        (package / file).write_text(f"from x2c.core.registry import FEATURES as R\n{text}")
        return package / file

    return registry, write


def test_a_name_registered_twice_is_an_error_of_that_name_alone(family):
    registry, write = family
    first = write("a.py", "@R.register('same')\nclass X: ...\n")
    second = write("b.py", "@R.register('same')\nclass X: ...\n")
    write("c.py", "@R.register('other')\nclass Y: ...\n")
    assert registry.names() == ("other", "same")
    assert registry.get("other").__name__ == "Y"
    with pytest.raises(UserError) as caught:
        registry.get("same")
    assert str(caught.value) == (
        f"thing: expected 'same' to be registered once; got it in {first} and {second}; rename one"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@R.register('odd')\nclass Odd:\n    def f(: ...\n", "line 4: thing 'odd': cannot be imported: SyntaxError: "),
        (
            "import nothing_like_this\n@R.register('odd')\nclass Odd: ...\n",
            "line 2: thing 'odd': cannot be imported: ModuleNotFoundError: No module named 'nothing_like_this'",
        ),
        ("@R.register('odd')\nclass Odd:\n    size = 1 / 0\n", "line 4: thing 'odd': cannot be imported: ZeroDivision"),
    ],
)
def test_a_broken_file_names_itself_and_breaks_its_own_entry_alone(family, text, reason):
    registry, write = family
    broken = write("odd.py", text)
    write("even.py", "@R.register('even')\nclass Even: ...\n")
    assert registry.names() == ("even", "odd")
    assert registry.get("even").__name__ == "Even"
    with pytest.raises(UserError) as caught:
        registry.get("odd")
    assert str(caught.value).startswith(f"{broken}: {reason}")
    assert "\n" not in str(caught.value)


def test_what_is_half_written_is_no_choice_and_breaks_nothing(family):
    registry, write = family
    write("even.py", "@R.register('even')\nclass Even: ...\n")
    write("half.py", "@R.register()\nclass Half: ...\n@R.register\nclass Other: ...\n")
    assert registry.names() == ("even",)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("@R.register('odd')\ndef odd(): ...\n", "a function, which has none"),
        ("@R.register('odd')\nclass Odd: ...\n", "a class without"),
    ],
)
def test_an_entry_without_options_is_an_error_that_names_its_file(family, text, kind):
    registry, write = family
    file = write("odd.py", text)
    with pytest.raises(UserError) as caught:
        registry.options("odd")
    assert str(caught.value) == f"{file}: thing 'odd': expected a class with a class Options inside; got {kind}; add it"


def test_options_that_lack_what_their_family_has_are_an_error_that_names_their_file(family):
    registry, write = family
    file = write("odd.py", "@R.register('odd')\nclass Odd:\n    class Options: ...\n")
    with pytest.raises(UserError) as caught:
        registry.options("odd", GuidanceOptions)
    assert str(caught.value) == (
        f"{file}: thing 'odd': expected a class Options derived from GuidanceOptions; got another; "
        "derive it from x2c.core.config.GuidanceOptions"
    )
    assert registry.options("odd").__name__ == "Options"


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
