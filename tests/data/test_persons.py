"""One person is one person: ids in other spellings, headers that bear one PatientID, and scans that are copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ct_files import chest, write_ct, write_picture, write_series
from prepare_files import grainy_xray, noisy, request, write_pairs
from xray_files import write_dicom

from x2c.data.prepare.copies import fine_structure, thumbnail
from x2c.data.prepare.persons import normal_id, united
from x2c.data.prepare.record import Record
from x2c.data.prepare.run import prepare
from x2c.data.preprocess.box import box_of
from x2c.data.preprocess.resample import resample
from x2c.data.volume import Volume


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller", "Mu\u0308ller"),
        ("P001", "p001"),
        ("007", "7"),
        ("P1", "P1\u200b"),
        ("\ufeffP1", " P1 "),
        ("A  B", "A\u00a0B"),
        ("\uff11\uff12", "12"),
        ("P\u202d1", "P1"),
    ],
)
def test_ids_that_only_look_otherwise_are_one(one, other):
    assert normal_id(one) == normal_id(other)


@pytest.mark.parametrize(("one", "other"), [("P1", "P10"), ("10", "1"), ("A-1", "A1"), ("P01", "P1"), ("a b", "ab")])
def test_ids_that_differ_stay_apart(one, other):
    assert normal_id(one) != normal_id(other)


def record(number, patient, ct=None, xray=None):
    return Record(
        study=f"s{number}",
        patient=patient,
        where=f"line {number}",
        status="ok",
        reasons=(),
        label=0,
        stamp="x",
        ct_person=ct,
        xray_person=xray,
    )


def test_who_shares_an_id_in_the_headers_is_one_patient():
    records = [
        record(1, "a", "h1"),
        record(2, "b", "h2", "h1"),
        record(3, "c", "h3"),
        record(4, "d", None, "h2"),
        record(5, "e"),
    ]
    made = united(records, strict=False)
    assert [one.patient for one in made] == ["a", "a", "c", "a", "e"]
    assert [one.status for one in made] == ["warning", "warning", "ok", "warning", "ok"]
    assert "the same patient id as those at line 1" in made[3].reasons[0]
    assert [one.status for one in united(records, strict=True)] == ["excluded", "excluded", "ok", "excluded", "ok"]


def test_an_id_that_most_bear_is_a_placeholder():
    records = [record(number, f"p{number}", "h1") for number in range(6)]
    assert united(records, strict=False) == records
    few = [*records[:3], *(record(number, f"p{number}", f"h{number}") for number in range(3, 9))]
    assert [one.patient for one in united(few, strict=False)][:4] == ["p0", "p0", "p0", "p3"]


def test_one_person_is_in_one_split_whatever_the_table_says(tmp_path):
    """Two rows whose scans bear one PatientID, a name in two Unicode forms, and an anonymiser's word."""
    root = tmp_path / "root"
    root.mkdir()
    lines = []
    ids = ["HOSP-1", "hosp-1 ", "ANON", "ANON", "other"]
    names = ["r0", "r1", "M\u00fcller", "Mu\u0308ller", "r5"]
    for number, (patient_id, name) in enumerate(zip(ids, names, strict=True)):
        write_series(root / f"ct{number}", noisy(number), PatientID=patient_id)
        write_picture(root / f"{number}.png", grainy_xray(number))
        lines.append({"patient": name, "ct": f"ct{number}", "xray": f"{number}.png", "label": number % 2})
    write_pairs(root, lines)
    records = prepare(request(root, tmp_path / "out", splits=(1, 1, 1)))
    patients = [one.patient for one in records]
    assert patients[0] == patients[1] and patients[2] == patients[3]
    assert len(set(patients)) == 3
    assert [one.status for one in records] == ["warning"] * 2 + ["ok"] * 3
    manifest = pq.read_table(tmp_path / "out/manifest.parquet").to_pandas()
    assert (manifest.groupby("patient")["split"].nunique() == 1).all()
    text = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*.json"))
    assert "HOSP" not in text.upper()


def test_ct_and_xray_of_two_people_are_told(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for number, (ct, xray) in enumerate([("PID-1", "PID-2"), ("PID-3", "pid-3")]):
        write_series(root / f"ct{number}", noisy(number), PatientID=ct)
        write_dicom(
            root / f"{number}.dcm", np.rint(grainy_xray(number) * 4095).astype(int), PatientID=xray, ViewPosition="PA"
        )
    write_pairs(root, [{"patient": f"P{n}", "ct": f"ct{n}", "xray": f"{n}.dcm", "label": 0} for n in range(2)])
    first, second = prepare(request(root, tmp_path / "out"))
    assert first.status == "warning" and "different patient ids in their headers" in first.reasons[-1]
    assert second.status == "ok", second.reasons


# Copies of a scan


def at(volume: Volume, mm) -> Volume:
    box = box_of(volume)
    depth, height, width = (round(size / step) for size, step in zip(box.size_mm, mm, strict=True))
    return resample(volume, box, (depth, height, width))


def correlation(one: Volume, other: Volume) -> float:
    def vector(volume):
        return fine_structure(thumbnail(resample(volume, box_of(volume), (32, 64, 64)).hu.astype(np.int16)))

    return float(vector(one) @ vector(other))


def test_a_scan_is_known_again_however_it_was_resampled_and_another_scan_of_the_same_anatomy_is_not():
    scan, again = chest(seed=1), chest(seed=2)
    for mm in ((5.0, 1.6, 1.6), (4.0, 3.1, 3.1), (2.5, 2.5, 2.5)):
        assert correlation(scan, at(scan, mm)) > 0.7
        assert abs(correlation(again, at(scan, mm))) < 0.1
    assert abs(correlation(scan, again)) < 0.1
    empty = np.zeros((32, 64, 64), np.int16)
    assert not fine_structure(empty).any()


def test_one_scan_in_two_files_is_found(tmp_path):
    """As DICOM and as NIfTI whose spacing is rounded; and resampled, under another patient."""
    root = tmp_path / "root"
    root.mkdir()
    scan = noisy(1)
    dz, dy, dx = scan.spacing_mm
    write_series(root / "a", Volume(scan.hu, (dz, dy + 3e-5, dx + 3e-5), scan.origin_mm))
    write_ct(root / "b.nii.gz", scan)
    write_ct(root / "c.nii.gz", noisy(2))
    write_ct(root / "d.nii.gz", at(noisy(2), (4.0, 2.2, 2.2)))
    write_ct(root / "e.nii.gz", noisy(3))
    write_ct(root / "f.nii.gz", at(noisy(3), (4.0, 2.2, 2.2)))
    lines = []
    for number, (name, patient) in enumerate(
        [
            ("a", "P1"),
            ("b.nii.gz", "P2"),
            ("c.nii.gz", "P3"),
            ("d.nii.gz", "P4"),
            ("e.nii.gz", "P5"),
            ("f.nii.gz", "P5"),
        ]
    ):
        write_picture(root / f"{number}.png", grainy_xray(number))
        lines.append({"patient": patient, "ct": name, "xray": f"{number}.png", "label": 0})
    write_pairs(root, lines)
    records = prepare(request(root, tmp_path / "out"))
    told = [(one.status, one.reasons[-1] if one.reasons else "") for one in records]
    assert told[:5] == [
        ("excluded", "its CT is the same as read, voxel by voxel, as one of another patient (pairs.csv line 3)"),
        ("excluded", "its CT is the same as read, voxel by voxel, as one of another patient (pairs.csv line 2)"),
        ("excluded", "its CT is the same scan, resampled, as one of another patient (pairs.csv line 5)"),
        ("excluded", "its CT is the same scan, resampled, as one of another patient (pairs.csv line 4)"),
        ("ok", ""),
    ]
    assert told[5] == ("excluded", "its CT is the same scan, resampled, as one at pairs.csv line 6")
    assert pd.read_csv(tmp_path / "out/report.csv")["status"].tolist() == [status for status, _ in told]
