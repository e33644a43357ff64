"""The long tables beside the results page: whole, as HTML to read and as CSV to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.page.pictures import FOLDER
from x2c.core.files import write_text

SUFFIXES = ("html", "csv")


@dataclass(frozen=True)
class Aside:
    """A table in files of its own."""

    name: str
    """Part of the files' names: `table2`."""
    title: str
    html: str
    csv: str


@dataclass(frozen=True)
class Beside:
    """The files of an aside, in the folder of the page's pictures."""

    aside: Aside
    prefix: str
    """Beginning of the files' names, which distinguishes groups."""

    def link(self, suffix: str) -> str:
        """Return the path of a file, relative to the page."""
        return f"{FOLDER.as_posix()}/{self.prefix}_{self.aside.name}.{suffix}"

    def links(self) -> str:
        """Return the table's title with links to the files."""
        links = ", ".join(f"[{suffix.upper()}]({self.link(suffix)})" for suffix in SUFFIXES)
        return f"{self.aside.title}: {links}"

    def write(self, out: Path) -> None:
        """Write the files into the page's folder."""
        for suffix in SUFFIXES:
            write_text(out / self.link(suffix), getattr(self.aside, suffix))


def remove_others(out: Path, links: Sequence[str]) -> None:
    """Delete files of the folder that the page does not link: their runs are no longer on the page."""
    linked = {Path(link).name for link in links}
    for suffix in ("png", *SUFFIXES):
        for file in sorted((out / FOLDER).glob(f"*.{suffix}")):
            if file.name not in linked:
                file.unlink()
