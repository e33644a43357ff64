"""The part of the README that is made from runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.page import readme as results_readme
from analysis.page.pictures import Picture
from analysis.read.groups import find_groups
from analysis.tabulate import quality

PICTURE = Picture("visual_ablation", "docs/results/p.png", "what it shows", "What it shows. Scale smoke.")


@pytest.fixture
def table(make_run) -> quality.Table:
    make_run("l1")
    runs = make_run("l1_lpips").parent
    return quality.collect(find_groups(runs)[0])


def test_what_stands_between_the_marks_is_replaced_and_nothing_else(table: quality.Table, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{results_readme.BEGIN}\nold\n{results_readme.END}\nafter\n")
    assert results_readme.refresh(readme, [table], PICTURE, "RESULTS.md")
    once = readme.read_text()
    assert once.startswith(f"# before\n{results_readme.BEGIN}\n![what it shows](docs/results/p.png)\n")
    assert once.endswith(f"[RESULTS.md](RESULTS.md).\n{results_readme.END}\nafter\n") and "old" not in once
    assert results_readme.refresh(readme, [table], PICTURE, "RESULTS.md") and readme.read_text() == once


@pytest.mark.parametrize("text", ["no marks\n", f"{results_readme.BEGIN}\nno end\n", None])
def test_a_readme_without_marks_is_left_alone(text: str | None, table: quality.Table, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    if text is not None:
        readme.write_text(text)
    assert not results_readme.refresh(readme, [table], PICTURE, "RESULTS.md")
    assert (readme.read_text() if readme.exists() else None) == text


def test_data_sets_stand_side_by_side(table: quality.Table) -> None:
    lines = results_readme.short([table, table], PICTURE, "RESULTS.md").splitlines()
    head, row = (next(line for line in lines if line.startswith(start)) for start in ("| Variant", "| L1 + LPIPS"))
    assert head.count(f"{table.dataset}: PSNR") == 2 and "paper" not in head
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    half = len(cells) // 2
    assert cells[:half] == cells[half:] and "±" in cells[0]
    assert "Small stand-ins take the place of pretrained networks" in "\n".join(lines)
    # Rows without a finished run are not here.
    assert not any("CLIP" in line for line in lines)


def test_the_seeds_of_the_cells_are_told_and_more_seeds_stand_across(make_run) -> None:
    make_run("l1")
    make_run("l1", seed=1)
    make_run("l1_adv", seed=1)
    make_run("l1_lpips")
    one, other = (
        quality.collect(find_groups(make_run("l1_adv", cohort=cohort).parent, None, cohort)[0])
        for cohort in ("f00dfeedbeef", "a71a5a71a5a7")
    )
    text = results_readme.short([one], PICTURE, "RESULTS.md")
    assert (
        "Mean ± SD over 6 test patients, seed 0; across seeds: mean ± SD of k differences to the reference row" in text
    )
    head = next(line for line in text.splitlines() if line.startswith("| Variant"))
    assert "Δ PSNR to L1, across seeds" in head and "(k = 2)" in text
    alone = results_readme.short([other], PICTURE, "RESULTS.md")
    assert "6 test patients, seed 0. " in alone and "across" not in alone


def test_seeds_are_told_for_each_data_set_where_they_differ(make_run) -> None:
    make_run("l1")
    runs = make_run("l1", seed=3, cohort="a71a5a71a5a7").parent
    tables = [quality.collect(group) for group in find_groups(runs)]
    told = results_readme._seeds(tables)
    assert sorted(told.split(" and ")) == ["seed 0 (phantom)", "seed 3 (phantom)"]
