"""Contract of sources: a folder in another layout is refused in one line that names no path and no patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES

NAME = "ZZTOP^GIACOMO"


def nothing(root: Path) -> None:
    """An empty folder."""


def files_of_other_kinds(root: Path) -> None:
    """A patient's folder with what lies about on disks, none of it a CT or an X-ray."""
    (root / NAME / "study").mkdir(parents=True)
    (root / NAME / "study/notes.txt").write_text(NAME)
    (root / NAME / "study/1.dcm").write_bytes(b"\0" * 200)
    (root / NAME / ".DS_Store").write_bytes(b"\0\1")
    (root / "README.md").write_text(NAME)


@pytest.mark.parametrize("fill", [nothing, files_of_other_kinds])
@pytest.mark.parametrize("name", SOURCES.names())
def test_a_folder_of_another_layout_is_one_line_or_no_usable_pair(name, fill, tmp_path, capfd):
    fill(tmp_path)
    try:
        found = SOURCES.get(name)(tmp_path)
    except UserError as error:
        said = [str(error)]
        assert "--root" in said[0]
    else:
        assert all(candidate.problem for candidate in found)
        said = [f"{candidate.where}: {candidate.problem}" for candidate in found]
    for line in [*said, *capfd.readouterr()]:
        assert "\n" not in line.strip() and NAME not in line and str(tmp_path) not in line
