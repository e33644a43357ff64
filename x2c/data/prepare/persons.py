"""Identity of persons: ids that are only written differently, and headers with the same PatientID.

Nothing of an id is kept but its salted hash.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from x2c.data.prepare.pseudonyms import Key
from x2c.data.prepare.record import Record
from x2c.data.remark import Remark

INVISIBLE = {"Cc", "Cf", "Cn", "Co"}
"""Unicode categories of invisible characters: controls, joiners, byte order marks."""
PLACEHOLDERS = {"", "0", "1", "id", "na", "n/a", "none", "null", "nil", "unknown", "test", "patient", "subject", "noid"}
PLACEHOLDERS |= {
    "anon",
    "anonym",
    "anonymous",
    "anonymized",
    "anonymised",
    "anonymize",
    "deidentified",
    "de-identified",
}
PLACEHOLDERS |= {"removed", "phi", "xxx", "x", "no id", "no_id", "not available", "pseudonymized", "pseudonymised"}
"""Normalised PatientIDs that anonymisers and phantoms use: they identify nobody."""
COMMON_SHARE, COMMON_PATIENTS = 0.5, 4
"""An id in the headers of more than this share of the patients, and of at least so many, is a placeholder too."""


def normal_id(text: str) -> str:
    """Return an id without the differences that two spellings of it may have.

    Unicode form (NFKC), invisible characters, kinds of dashes, white space at its ends and repeated, capitals, and the zeros that a
    spreadsheet takes away from a number.
    """
    visible = "".join(
        "-" if unicodedata.category(c) == "Pd" else c
        for c in unicodedata.normalize("NFKC", text)
        if unicodedata.category(c) not in INVISIBLE
    )
    folded = " ".join(visible.split()).casefold()
    return folded.lstrip("0") or "0" if folded.isdecimal() else unicodedata.normalize("NFC", folded)


def header_person(key: Key, ids: Sequence[str]) -> str | None:
    """Return the salted hash of the PatientID in headers; None if there is none, or if it identifies nobody."""
    named = {normal for one in ids if not _is_placeholder(normal := normal_id(one))}
    return key.header(named.pop()) if len(named) == 1 else None


def _is_placeholder(normal: str) -> bool:
    bare = normal.strip(" ._-*#")
    return bare in PLACEHOLDERS or bare.startswith(("anon", "deid", "de-id"))


def same_person_remarks(ct: str | None, xray: str | None) -> list[Remark]:
    """Whether the headers of CT and X-ray name one person, given their hashes."""
    if ct is None or xray is None or ct == xray:
        return []
    return [("warning", "CT and X-ray bear different patient ids in their headers: are they one person's?")]


def united(records: Sequence[Record], *, strict: bool) -> list[Record]:
    """Return the records; those whose headers have one PatientID become one patient's, whatever the listing says.

    One person must not be in two splits. An id that most patients share is a placeholder of an anonymiser, and joins
    nobody.
    """
    patients_of: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for person in (record.ct_person, record.xray_person):
            if person is not None:
                patients_of[person].add(record.patient)
    everyone = len({patient for patients in patients_of.values() for patient in patients})
    joining = {
        person: patients
        for person, patients in patients_of.items()
        if len(patients) > 1 and (len(patients) < COMMON_PATIENTS or len(patients) <= COMMON_SHARE * everyone)
    }
    one_of = _representatives(joining.values(), [record.patient for record in records])
    sharing = defaultdict(list)
    for record in records:
        sharing[one_of[record.patient]].append(record)
    return [_united(record, one_of[record.patient], sharing, strict=strict) for record in records]


def _united(record: Record, patient: str, sharing: dict[str, list[Record]], *, strict: bool) -> Record:
    other = next((one for one in sharing[patient] if one.patient != record.patient), None)
    if other is None:
        return record
    text = (
        f"its headers bear the same patient id as those at {other.where}, which is listed under another patient: both are "
        "taken for one person"
    )
    return record.model_copy(update={"patient": patient}).with_remarks([("warning", text)], strict=strict)


def _representatives(groups: Iterable[set[str]], patients: Sequence[str]) -> dict[str, str]:
    """Return for each patient the first one, in the order of the listing, of all whom groups join with them."""
    first = {patient: patient for patient in patients}

    def root(patient: str) -> str:
        while first[patient] != patient:
            patient = first[patient]
        return patient

    order = {patient: number for number, patient in reversed(list(enumerate(patients)))}
    for group in groups:
        roots = sorted({root(patient) for patient in group}, key=order.__getitem__)
        for other in roots[1:]:
            first[other] = roots[0]
    return {patient: root(patient) for patient in first}
