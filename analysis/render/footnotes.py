"""Sentences under a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NOT_FOR_DIAGNOSIS = "Generated volumes are research material and are not for diagnosis."


@dataclass(frozen=True)
class Footnote:
    """A sentence under the table; `mark` is the letter that cells carry, empty when it holds for all."""

    mark: str
    text: str
    kind: Literal["", "stand-in", "left out"] = ""
    """What it tells of, where some pages show such notes in another form: a stand-in network, or runs in no row."""
    about: str = ""
    """The name of the stand-in, with what it is in place of."""


def stand_in_note(mark: str, about: str) -> Footnote:
    """The note of a stand-in network, of which `about` says what it is in place of."""
    return Footnote(mark, f"Stand-in for {about}.", "stand-in", about)
