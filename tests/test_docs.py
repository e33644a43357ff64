"""The documentation: links lead somewhere, commands parse, pages made from the code are up to date, the README is short."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typed import make, parsed

from analysis.tabulate.measures import COLUMNS, MORE_COLUMNS
from x2c.core.resolve import resolve, scales, variants
from x2c.core.script import PROJECT
from x2c.data.prepare.store import SCHEMA
from x2c.sweep.plan.cells import sweeps

DOCS = PROJECT / "docs"
PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "RESULTS.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
SHELL = {"chgrp", "chmod", "umask", ".", ".ci/run"}
"""Programs that the pages call besides make and Python."""


def named(path: Path) -> str:
    """A page as a test's name."""
    return str(path.relative_to(PROJECT))


def prose(path: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?) *$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"<[^>]*>", "", heading).lower()).replace(" ", "-")
        same = [slug, *(f"{slug}-{count}" for count in range(1, 100))]
        found.add(next(name for name in same if name not in found))
    return found


def links(path: Path) -> list[str]:
    """The relative links of a page."""
    found = [link or source for link, source in LINK.findall(prose(path))]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}: {sorted(anchors(target))}"


def test_every_page_is_in_the_navigation_of_the_site():
    nav = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(
        [*(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")), "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md"]
    )


def typed_lines(page: Path) -> list[str]:
    """The lines of a page's `sh` blocks, without remarks; lines that a backslash joins are one."""
    blocks = [body for _, kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == "sh"]
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


LINES = [(named(page), line) for page in PAGES for line in typed_lines(page)]


def test_most_pages_that_tell_how_to_have_commands():
    assert len(LINES) > 60
    assert {"README.md", "docs/getting-started.md", "docs/how-to/sweeps.md"} <= {name for name, _ in LINES}


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{name}: {line}" for name, line in LINES])
def test_a_command_parses(page, line):
    """By the Makefile, and by the parser of the program that the target or the line starts."""
    words = shlex.split(line)
    if words[0] == "make":
        done = make(*words[1:])
        assert done.returncode == 0, done.stderr
        started = [shlex.split(text) for text in done.stdout.splitlines() if text.startswith(".venv/bin/python ")]
        for command in started:
            check(command[1:])
    elif words[:2] == ["accelerate", "launch"]:
        check(words[2:])
    elif words[0] == "python":
        check(words[1:])
    else:
        assert words[0] in SHELL, line


def check(words: list[str]) -> None:
    """The parser takes it, and its names and fields are known."""
    if words[:2] in (["-m", "pytest"], ["-m", "mkdocs"], ["-m", "pip"]) or words[0] == "docs/generate.py":
        return
    result = parsed(words)
    options = vars(result.options)
    # Sweeps of the tutorial are written by its reader.
    if words[:2] == ["-m", "x2c.sweep"] and "name" in options:
        assert options["name"] in {*sweeps(), "edges", "edges_weight"}
    assert options.get("scale") in {None, *scales()}
    if variant := options.get("variant"):
        assert variant in variants()
        # Fields of a classification are its own; folders in documents are made up.
        fields = [text for text in result.overrides if not text.startswith("classification.") and "=/" not in text]
        resolve(variant, options.get("scale") or "cpu", 0, fields)


def test_a_wrong_command_does_not_parse():
    for words in (
        ["x2c/train.py", "--variant", "l1", "--no-such-option"],
        ["-m", "x2c.sweep", "plan", "losses", "--no-such-option"],
        ["-m", "x2c.runs", "lisst"],
        ["analysis/tables.py", "--tabel", "2"],
    ):
        with pytest.raises((Exception, SystemExit)) as refused:
            parsed(words)
        assert not isinstance(refused.value, AssertionError)
    with pytest.raises(AssertionError):
        check(["-m", "x2c.sweep", "plan", "losess"])


def generator():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_that_are_made_from_the_code_are_up_to_date():
    for name, page in generator().PAGES.items():
        kept = (DOCS / "reference" / name).read_text(encoding="utf-8")
        assert kept == page(), f"docs/reference/{name}: run python docs/generate.py"


def test_every_metric_and_every_column_of_a_manifest_is_explained():
    metrics, files = (
        DOCS.joinpath("reference", name).read_text(encoding="utf-8") for name in ("metrics.md", "files.md")
    )
    for column in (*COLUMNS, *MORE_COLUMNS):
        assert f"| `{column.key}` |" in metrics, column.key
    for name in SCHEMA.names:
        assert f"`{name}`" in files, name


def test_the_source_of_the_guide_lists_pairs(tmp_path):
    guide = (DOCS / "how-to/own-data-set.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# x2c/data/sources/mine\.py\n.*?)```", guide, re.DOTALL)
    made: dict[str, object] = {}
    exec(compile(code, "mine.py", "exec"), made)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    pairs = made["mine"](tmp_path)
    assert [(pair.where, pair.patient) for pair in pairs] == [("folder 1", "a"), ("folder 2", "b")]
    assert pairs[0].ct == tmp_path / "a" / "ct.nii.gz"


def folders_of_the_tree(page: Path) -> Iterator[str]:
    tree = page.read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    yield from (line.split()[0] for line in tree.removeprefix("text").strip().splitlines())


@pytest.mark.parametrize("name", ["README.md", "docs/explanation/design.md"])
def test_the_tree_is_the_present_one(name):
    for path in folders_of_the_tree(PROJECT / name):
        assert (PROJECT / path.rstrip("/")).exists(), path


def test_the_whole_tree_has_every_folder_of_the_code():
    told = {path.rstrip("/") for path in folders_of_the_tree(DOCS / "explanation/design.md")}
    for folder in ("x2c", "x2c/sweep", "analysis"):
        for path in (PROJECT / folder).iterdir():
            if (path / "__init__.py").exists():
                name = str(path.relative_to(PROJECT))
                assert any(one == name or one.startswith(f"{name}/") for one in told), name


def test_the_readme_is_short():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220
    assert len(text.split()) <= 2000
    output = text.split("```text\nTable 2.")[1].split("```")[0]
    assert len(output.splitlines()) <= 12
