"""The site also shows pages that lie beside the README; links between them and docs/ are mended on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

PROJECT = Path(__file__).resolve().parents[1]
PAGES = ("RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie beside the README."""
    for name in PAGES:
        text = (PROJECT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page in docs/ to those pages, which are one folder nearer in the site."""
    up = "../" * page.file.src_uri.count("/")
    for name in PAGES:
        markdown = markdown.replace(f"](../{up}{name}", f"]({up}{name}")
    return markdown
