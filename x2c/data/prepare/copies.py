"""What stands in a source twice: nobody knows whose it is, or it would cross the splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from x2c.data.prepare.pair import HU_FILE, XRAY_FILE, Record
from x2c.data.sources.candidate import Candidate

Item = TypeVar("Item")
Key = TypeVar("Key")


def without_repeats(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, of which those that share a file with another patient, or repeat a CT, have a problem instead.

    Examinations of one patient may share an X-ray.
    """
    by_ct, by_xray = _grouped(candidates, lambda c: c.ct), _grouped(candidates, lambda c: c.xray)

    def checked(candidate: Candidate) -> Candidate:
        for what, path, listed in (("CT", candidate.ct, by_ct), ("X-ray", candidate.xray, by_xray)):
            patients = {other.patient for other in listed.get(path, ())}
            if len(patients) > 1:
                return _refused(candidate, f"its {what} stands under {len(patients)} patients")
        first = by_ct.get(candidate.ct, [candidate])[0]
        return candidate if first is candidate else _refused(candidate, f"its CT is listed twice; see {first.where}")

    return [checked(candidate) for candidate in candidates]


def without_copies(records: Sequence[Record]) -> list[Record]:
    """The records, of which copies under other names are excluded: CTs voxel by voxel, X-rays pixel by pixel.

    Of one patient's equal CTs the first stays; where patients share a CT or an X-ray all go.
    """
    by_ct = _grouped(records, lambda r: r.digests.get(HU_FILE))
    by_xray = _grouped(records, lambda r: r.digests.get(XRAY_FILE))

    def reason(record: Record) -> str:
        same_ct = by_ct.get(record.digests.get(HU_FILE), [record])
        for what, same in (
            ("CT is the same, voxel by voxel,", same_ct),
            ("X-ray is the same, pixel by pixel,", by_xray.get(record.digests.get(XRAY_FILE), [record])),
        ):
            if stranger := next((other for other in same if other.patient != record.patient), None):
                return f"its {what} as one of another patient ({stranger.where})"
        return "" if same_ct[0] is record else f"its CT is the same, voxel by voxel, as one at {same_ct[0].where}"

    return [
        record.model_copy(update={"status": "excluded", "reasons": (*record.reasons, why)})
        if (why := reason(record))
        else record
        for record in records
    ]


def _grouped(items: Sequence[Item], key: Callable[[Item], Key | None]) -> dict[Key | None, list[Item]]:
    """Items by what they have; those that have none are in no group."""
    groups: dict[Key | None, list[Item]] = defaultdict(list)
    for item in items:
        if (value := key(item)) is not None:
            groups[value].append(item)
    return dict(groups)


def _refused(candidate: Candidate, problem: str) -> Candidate:
    return replace(candidate, ct=None, xray=None, problem=problem)
