"""The view of a DICOM radiograph, derived from its header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

Kind = Literal["frontal", "decubitus", "oblique", "lateral", "axial"]

POSITIONS: dict[Kind, tuple[str, ...]] = {
    "frontal": ("PA", "AP"),
    "decubitus": ("LLD", "RLD"),
    "oblique": ("LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE"),
    "lateral": ("LL", "RL", "LAT", "LATERAL"),
}
"""ViewPosition (0018,5101): the terms of PS3.3 C.8.1.1, and others in use, by the kind of view that they stand for."""
VIEWS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "frontal": {
        "frontal": ("399033003", "R-10202"),
        "antero-posterior": ("399348003", "R-10206"),
        "postero-anterior": ("272479007", "R-40888", "R-10214"),
    },
    "oblique": {
        "oblique": ("399182000", "R-102C1"),
        "frontal oblique": ("399160007", "R-10204"),
        "antero-posterior oblique": ("399312000", "R-10208"),
        "postero-anterior oblique": ("399059000", "R-10216"),
        "right posterior oblique": ("399038007", "R-10210"),
        "left posterior oblique": ("399006002", "R-10212"),
        "right anterior oblique": ("399356000", "R-40985", "R-10218"),
        "left anterior oblique": ("399135007", "R-10220"),
        "right oblique": ("399236003", "R-10234"),
        "left oblique": ("399184004", "R-10238"),
        "lateral oblique": ("260427002", "R-40783"),
        "medial oblique": ("260426006", "R-40782"),
    },
    "lateral": {
        "lateral": ("399067008", "R-102CD"),
        "right lateral": ("399198007", "R-10232"),
        "left lateral": ("399173006", "R-10236"),
        "medial-lateral": ("399260004", "R-10224"),
        "lateral-medial": ("399352003", "R-10228"),
        "sagittal": ("30730003", "G-A145", "R-10222"),
    },
    "axial": {
        "axial": ("399061009", "R-10241"),
        "cranio-caudal": ("399162004", "R-10242"),
        "caudo-cranial": ("399196006", "R-10244"),
    },
}
"""ViewCodeSequence (0054,0220): of DICOM CID 4010 the views that a chest can have, by kind and meaning, each with its code
in SNOMED CT and in the former SNOMED RT (SNM3, SRT), and with those that were withdrawn."""
KIND_OF_POSITION = {word: kind for kind, words in POSITIONS.items() for word in words}
KIND_OF_MEANING = {meaning: kind for kind, meanings in VIEWS.items() for meaning in meanings}
MEANING_OF_CODE = {
    code: meaning for meanings in VIEWS.values() for meaning, codes in meanings.items() for code in codes
}

AXES = {"L": "side", "R": "side", "A": "depth", "P": "depth", "H": "height", "F": "height"}
"""Directions of PatientOrientation (0020,0020), PS3.3 C.7.6.1.1.1: to the patient's left, right, anterior, …"""
VIEWED_AXES: dict[frozenset[str], Kind] = {
    frozenset(("side", "height")): "frontal",
    frozenset(("depth", "height")): "lateral",
    frozenset(("side", "depth")): "axial",
}
"""Kinds of view by the axes that lie in the picture."""

RANKS: dict[Kind | None, int] = {"frontal": 0, None: 1, "decubitus": 2, "oblique": 3, "lateral": 3, "axial": 3}


def views_said(dataset: Any) -> dict[str, Kind]:
    """The kind of view by each attribute that tells it, as `ViewPosition PA`; unknown words are left out.

    The names are made of DICOM's own words only, so that they can be shown.
    """
    said: dict[str, Kind] = {}
    position = _upper(dataset.get("ViewPosition"))
    if position in KIND_OF_POSITION:
        said[f"ViewPosition {position}"] = KIND_OF_POSITION[position]
    for item in dataset.get("ViewCodeSequence") or ():
        meaning = _meaning(item)
        if meaning in KIND_OF_MEANING:
            said[f"ViewCodeSequence {meaning}"] = KIND_OF_MEANING[meaning]
    if (towards := patient_orientation(dataset)) is not None:
        said[rf"PatientOrientation {towards[0]}\{towards[1]}"] = VIEWED_AXES[
            frozenset(AXES[letter] for letter in towards)
        ]
    return said


def patient_orientation(dataset: Any) -> tuple[str, str] | None:
    """Return the main direction, one of LRAPHF, to which a picture's rows run, and its columns; None if not given."""
    words = dataset.get("PatientOrientation") or ()
    if isinstance(words, str) or len(words) != 2 or _upper(dataset.get("AnatomicalOrientationType")) == "QUADRUPED":
        return None
    # Further letters give secondary directions.
    along, down = (_upper(word)[:1] for word in words)
    if along not in AXES or down not in AXES or AXES[along] == AXES[down]:
        return None
    return along, down


def rank(kinds: Iterable[Kind]) -> int:
    """Return the order of preference by the header: 0 frontal, 1 unknown, 2 decubitus, 3 anything else."""
    return max((RANKS[kind] for kind in kinds), default=RANKS[None])


def _meaning(item: Any) -> str:
    """A coded view's meaning; manufacturers' own codes come with the words of CID 4010."""
    said = str(item.get("CodeMeaning") or "").strip().lower()
    return MEANING_OF_CODE.get(str(item.get("CodeValue") or "").strip(), said)


def _upper(word: Any) -> str:
    return str(word or "").strip().upper()
