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
    kind: Literal["", "stand-in", "left out", "reading"] = ""
    """Kind of note, which some pages show in another form or elsewhere: a stand-in network, runs in no row, or how numbers
    are read in general, whatever the runs; else empty."""
    about: str = ""
    """Name of the stand-in, and of the network it replaces; empty for other notes."""


def stand_in_note(mark: str, about: str) -> Footnote:
    """Return the note of a stand-in network; `about` names it and the network it replaces."""
    return Footnote(mark, f"Stand-in for {about}.", "stand-in", about)
