"""README.md, Getting started and RESULTS.md show the same runs: every score that two of them print has the same digits."""

from __future__ import annotations

import re

import pytest

from x2c.core.script import PROJECT

README, RESULTS = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "RESULTS.md"))
SCORE = re.compile(r"(\d+\.\d+) ?± ?(\d+\.\d+)")


def plain(cell: str) -> str:
    """A cell of a Markdown table without marks, bold and hard spaces."""
    return re.sub(r"<sup>.*?</sup>|\*|\\", "", cell.replace("\N{NO-BREAK SPACE}", " ")).strip()


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of the lines of Markdown tables, by the first line of their first cell; the first of several."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            name, *cells = (plain(cell.split("<br>")[0]) for cell in line.strip("|").split("|"))
            found.setdefault(name, cells)
    return found


def table2_of(dataset: str) -> tuple[list[str], dict[str, list[str]]]:
    """Head and rows of RESULTS.md's Table 2 of a data set."""
    part = RESULTS.split(f"\n## {dataset.capitalize()}\n")[1].split("\n### Table 2.")[1].split("\n### ")[0]
    rows = rows_of(part)
    return rows.pop("Variant"), rows


def test_the_first_table_of_the_readme_is_that_of_the_results() -> None:
    rows = rows_of(README.split("<!-- results: begin -->")[1].split("<!-- results: end -->")[0])
    heads = rows.pop("Variant")
    compared = 0
    for place, head in enumerate(heads):
        dataset, _, metric = head.partition(": ")
        if "across" in metric:
            continue
        columns, expected = table2_of(dataset)
        (column,) = [i for i, name in enumerate(columns) if name == metric]
        for label, cells in rows.items():
            if cells[place] not in ("", "–"):
                assert cells[place] == expected[label][column], (label, head)
                compared += 1
    assert compared >= 80


PRINTED = {
    "README.md": ("L1", "L1 + Classifier", "Autoencoder ceiling"),
    "docs/getting-started.md": ("L1", "L1 + LPIPS", "L1 + ADV", "L1 + LPIPS + ADV", "L1 + Classifier",
                                "Mean training volume", "Nearest training X-ray", "Autoencoder ceiling"),
}  # fmt: skip
"""The rows of Table 2 that pages print as a terminal shows them."""


@pytest.mark.parametrize("page", PRINTED)
def test_a_printed_table_is_that_of_the_results(page: str) -> None:
    columns, expected = table2_of("phantom")
    (column,) = [i for i, name in enumerate(columns) if name.startswith("PSNR")]
    text = (PROJECT / page).read_text(encoding="utf-8")
    block = text.split("Table 2. Ablation at scale cpu on phantom")[1].split("```")[0]
    for label in PRINTED[page]:
        line = next(
            line for line in block.splitlines() if re.match(rf"{re.escape(label)} (?! *\+)(\S* )? *\S*\d", line)
        )
        printed, wanted = (SCORE.search(text) for text in (line, expected[label][column]))
        assert printed and wanted and printed.groups() == wanted.groups(), label
