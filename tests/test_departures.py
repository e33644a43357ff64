"""docs/departures.md says what scale `paper` does: its values are the configuration's, and no field is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from analysis.read.derived_id import NOT_RECIPE, leaves
from x2c.core.resolve import read_yaml, resolve
from x2c.core.script import PROJECT

PAGE = (PROJECT / "docs" / "departures.md").read_text(encoding="utf-8")
WHOLE = "lidc_lora"
"""The variant that has all stages and all loss terms."""
ROWS = read_yaml(PROJECT / "sweeps" / "ablation.yaml")["parameters"]["variant"]["values"]
VALUE = re.compile(r"`(?:(\w+): )?([a-z]\w*(?:\.\w+)+)=([^`]+)`")
NO_CHOICE = re.compile(
    # Which made-up patients, where files lie, how many pictures are kept.
    r"(dataset|pretraining|finetuning)\.(name|fold|cohort|contrast)|.*\.source|stages\.start|evaluation\.pictures|scale"
)
HEAD = "| step | paper | public code | x2c | why |"


def table() -> list[list[str]]:
    """The cells of the first table's lines, without those that only name a group."""
    lines = PAGE.split(HEAD)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if any(row[1:])]


def stated() -> Iterator[tuple[str, str, str]]:
    """Variant, field and value of all that the page states."""
    for variant, path, value in VALUE.findall(PAGE):
        yield variant or WHOLE, path, value


@cache
def config_of(variant: str) -> dict[str, Any]:
    return resolve(variant, "paper").model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(("variant", "path", "value"), sorted(set(stated())))
def test_a_value_on_the_page_is_that_of_scale_paper(variant, path, value):
    """Asked for, it changes nothing."""
    assert resolve(variant, "paper", 0, [f"{path}={value}"]) == resolve(variant, "paper")


def test_every_field_that_can_change_a_result_is_on_the_page():
    known, free = {(v, path) for v, path, _ in stated()}, {".".join(path) for path in NOT_RECIPE}
    missing, seen = [], set[tuple[str, str]]()
    for variant in (WHOLE, *ROWS):
        for path, value in leaves(config_of(variant)):
            new = (path, str(value)) not in seen
            seen.add((path, str(value)))
            unused = value is None or (path.endswith(".lora_rank") and value == 0)
            if not new or unused or NO_CHOICE.fullmatch(path) or {path, path.split(".")[0]} & free:
                continue
            if not {(variant, path), (variant, path.rpartition(".")[0])} & known:
                missing.append(f"{variant}: {path}={value}")
    assert missing == []


def test_every_row_has_all_five_cells_and_a_reason():
    rows = table()
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 5 and all(row), row
    assert len({row[0] for row in rows}) == len(rows)


def test_what_the_page_links_to_is_there():
    for name in re.findall(r"`((?:tests|experiments|benchmarks|sweeps)/[\w./]+)`", PAGE):
        assert (PROJECT / name).exists(), name
    assert "docs/departures.md" in (PROJECT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["base.yaml", "scales/paper.yaml"])
def test_the_headers_of_the_paper_scale_name_the_page(file):
    assert "docs/departures.md" in (PROJECT / "experiments" / file).read_text(encoding="utf-8")
