"""Sentences under a table."""

from __future__ import annotations

from dataclasses import dataclass

NOT_FOR_DIAGNOSIS = "Generated volumes are research material and are not for diagnosis."


@dataclass(frozen=True)
class Footnote:
    """A sentence under the table; `mark` is the letter that cells carry, empty when it holds for all."""

    mark: str
    text: str
