"""Values of the command line: a field of text gets the text, every other field what YAML makes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2c.core.errors import UserError
from x2c.core.given import read_value
from x2c.core.resolve import parse_override, resolve

PATHS = [
    "/w/a=b%r #1.pt",
    " /w/a.pt ",
    "it's.pt",
    '"a".pt',
    "[draft] a.pt",
    "%a.pt",
    "@a",
    "*a",
    "&a b",
    "!a",
    "# a",
    "a\nb",
    "a: b: c",
    "2024-05-01",
    "2020-13-45",
    "0123",
    "1_000",
    "1:30",
    "yes",
    "1e3",
    "Ω😀",
    "   ",
    "",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("field", ["compute.cache", "compute.project"])
def test_text_arrives_as_it_stands(field, path):
    section, name = field.split(".")
    for text in (path, json.dumps(path)):
        assert getattr(getattr(resolve("l1", "smoke", 0, [f"{field}={text}"]), section), name) == path


@pytest.mark.parametrize("path", ["/w/a=b%r #1.pt", " a.pt", "0123", "2024-05-01", "yes", "", "😀"])
def test_weights_to_start_from_arrive_as_they_stand(path):
    for text in (path, json.dumps(path)):
        assert resolve("l1", "smoke", 0, [f"stages.start={text}"]).stages.start == path


def test_options_of_a_slot_know_their_types_too():
    for text in ("", '""'):
        assert resolve("l1", "smoke", 0, [f"dataset.fold={text}"]).dataset.options.fold == ""
    # A number stays one, comment and spaces or not.
    assert resolve("l1", "smoke", 0, ["dataset.train= 5 # five"]).dataset.options.train == 5


@pytest.mark.parametrize("text", ["null", "~", "None", "[a]", "- a", "{a: b}", "a: b"])
def test_what_is_no_text_is_refused_where_text_belongs(text):
    for field in ("compute.cache", "stages.start"):
        with pytest.raises(UserError, match=f"^{field}: .*got "):
            resolve("l1", "smoke", 0, [f"{field}={text}"])


@pytest.mark.parametrize("text", ["null", "None", "~", ""])
def test_null_is_spelt_as_in_yaml_or_as_in_python(text):
    config = resolve("l1", "gpu", 0, ["compute.gpu_memory_gb=7", f"compute.gpu_memory_gb={text}"])
    assert config.compute.gpu_memory_gb is None
    assert read_value("[None, {a: None}, 'None']") == [None, {"a": None}, "None"]


@pytest.mark.parametrize("text", ["5", "0.1", "true", "False", "[1, 4]"])
def test_other_values_are_yaml(text):
    assert str(read_value(text)) == text


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_survives_in_quotes(text):
    assert read_value(json.dumps(text)) == text
    assert parse_override(f"a.b={json.dumps(text)}") == {"a": {"b": text}}
