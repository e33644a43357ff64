"""YAML files and values: a key that stands twice is told of with its file, path and line."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from x2c.core import resolve as resolving
from x2c.core.errors import FileError, UserError
from x2c.core.preregistration import read_lock
from x2c.core.resolve import parse_override, read_config, read_yaml, resolve
from x2c.core.yaml_text import FAST_LOADER, RepeatedKeyError, load_yaml, quoted


@pytest.mark.parametrize(
    ("text", "key", "line", "first"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", 3, 1),
        ("a: 1\n'a': 1\n", "a", 2, 1),
        ("loss:\n  lpips: {weight: 1, weight: 2}\n", "loss.lpips.weight", 2, 2),
        ("each:\n- {b: 1}\n- b: 1\n  c: 2\n  b: 3\n", "each.b", 5, 3),
        ("yes: 1\ntrue: 2\n", "true", 2, 1),
        ("one: &x {a: 1}\ntwo: {<<: *x, b: 1, b: 2}\n", "two.b", 2, 2),
    ],
)
def test_a_key_that_stands_twice_is_an_error(text, key, line, first):
    with pytest.raises(RepeatedKeyError) as caught:
        load_yaml(text)
    assert (caught.value.key, caught.value.line, caught.value.first) == (key, line, first)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        ("a: {x: 1}\nb: {x: 2}\n", {"a": {"x": 1}, "b": {"x": 2}}),
        # A key over a merged one is what merges are for, wherever the alias stands.
        (
            "base: &base {k: 1}\nin: {a: &a {<<: *base, k: 2}}\nout: {<<: *a}\n",
            {"base": {"k": 1}, "in": {"a": {"k": 2}}, "out": {"k": 2}},
        ),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
    ],
)
def test_other_mappings_are_what_they_were(text, content):
    assert load_yaml(text) == content


def test_a_mapping_inside_of_itself_is_read():
    content = load_yaml("&a {b: *a}")
    assert content["b"] is content


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    folder = tmp_path / "experiments"
    shutil.copytree(resolving.EXPERIMENTS, folder)
    monkeypatch.setattr(resolving, "EXPERIMENTS", folder)
    return folder


@pytest.mark.parametrize("name", ["base.yaml", "scales/smoke.yaml", "l1.yaml"])
def test_files_of_experiments_name_file_key_and_line(experiments, name):
    path = experiments / name
    text = path.read_text()
    lines = len(text.splitlines())
    path.write_text(f"{text}training:\n  weight_decay: .1\n  weight_decay: .2\n")
    with pytest.raises(UserError) as caught:
        resolve("l1", "smoke")
    # base.yaml and the scales have a training section of their own, which comes first.
    assert str(caught.value).startswith(f"{path}:{lines + (3 if name == 'l1.yaml' else 1)}: training")
    assert "expected once; got it again, after line " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_s_config_names_file_key_and_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("variant: l1\nseed: 0\nseed: 1\n")
    with pytest.raises(UserError, match=rf"^{path}:3: seed: expected once; got it again, after line 2; remove one$"):
        read_config(path)


def test_a_locked_plan_names_file_key_and_line(tmp_path):
    path = tmp_path / "losses.yaml"
    path.write_text("sweep: losses\nsweep: other\n")
    with pytest.raises(FileError, match=rf"{path}: .*line 2: sweep: expected once"):
        read_lock(path)


def test_a_value_on_the_command_line_has_each_key_once():
    with pytest.raises(UserError, match=r"^loss\.l1\.weight: expected once; got it twice in '\{l1: \{weight: 1, we"):
        parse_override("loss={l1: {weight: 1, weight: 2}}")


@pytest.mark.parametrize("text", [b"a: 2020-13-45\n", b"a: \xfc\n"])
def test_what_no_parser_can_read_is_one_line(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"^{path}: not valid YAML: .") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, FAST_LOADER])
@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "two words: {a}, #b, 'c', \"d\"",
        "gr\u00f6\u00dfe \N{GRINNING FACE} \N{GRINNING FACE}",
        "lines\u2028and\u2029ends\x85and\x7f\x9f\ufeff\uffff\n\ttabs",
        ["a", None, True, 3, 0.5, {"k\N{GRINNING FACE}": 1}],
    ],
)
def test_what_is_quoted_is_json_and_yaml(loader, value):
    assert yaml.load(quoted(value), loader) == json.loads(quoted(value)) == value
