"""Preparing data sets in every layout that they come in, and that no patient's identifier gets into what is made."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import chest, write_ct, write_picture, write_series
from prepare_files import grainy_xray, make_folder, noisy, opened, request

from x2c.core.errors import UserError
from x2c.core.registry import SOURCES
from x2c.data.prepare.pseudonyms import KEY_FILE, LIST_FILE
from x2c.data.prepare.run import prepare

NAMES = ("ZZTOP^GIACOMO", "MRN-4711-0815", "19610228", "1.2.840.99999.123456789")
"""Planted where hospitals put them: a name, an id, a birth date, a UID."""


def planted(root: Path, out: Path) -> None:
    """No planted identifier is in any file below `out`, nor in a name of one."""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        for name in NAMES:
            assert name.encode() not in content and name not in str(path.relative_to(out)), path


def tags(number: int) -> dict[str, object]:
    name, identity, born, uid = NAMES
    return {
        "PatientName": name,
        "PatientID": f"{identity}-{number}",
        "PatientBirthDate": born,
        "StudyInstanceUID": f"{uid}.{number}",
        "SeriesInstanceUID": f"{uid}.{number}.1",
        "StudyDate": born,
        "AccessionNumber": identity,
        "InstitutionName": name,
    }


def write_dicom_xray(path: Path, number: int, **more: object) -> None:
    """A DX picture made of a CT slice's writer: an 8-bit radiograph with identifiers."""
    write_series(path.parent, chest(), prefix="tmp_", **tags(number))
    first, *rest = sorted(path.parent.glob("tmp_*"))
    for other in rest:
        other.unlink()
    dataset = pydicom.dcmread(first)
    first.unlink()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleIntercept", "RescaleSlope"):
        delattr(dataset, tag)
    pixels = np.rint(grainy_xray(number) * 4095).astype(np.uint16)
    dataset.Modality, dataset.SeriesInstanceUID = "DX", f"{NAMES[3]}.{number}.2"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    for tag, value in more.items():
        setattr(dataset, tag, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)


def test_the_archives_layout_of_lidc_and_no_identifier_anywhere(tmp_path, capfd):
    root, out = tmp_path / "root", tmp_path / "out"
    for number in range(5):
        study = root / f"{NAMES[1]}-{number}" / f"{NAMES[3]}.{number}"
        write_series(study / "ct", noisy(number), **tags(number))
        write_series(
            study / "scout", chest(shape=(20, 32, 32)), **{**tags(number), "ImageType": ["DERIVED", "LOCALIZER"]}
        )
        (study / "ct/069.xml").write_text(f"<LidcReadMessage>{NAMES[0]}</LidcReadMessage>")
        (study / "dx").mkdir()
        write_dicom_xray(study / "dx/a.dcm", number, ViewPosition="LL")
        write_dicom_xray(study / "dx/b.dcm", number, ViewPosition="PA")
    shutil.rmtree(root / f"{NAMES[1]}-4" / f"{NAMES[3]}.4" / "dx")
    broken = root / f"{NAMES[1]}-3" / f"{NAMES[3]}.3" / "ct"
    victim = sorted(broken.glob("*.dcm"))[5]
    victim.write_bytes(victim.read_bytes()[:-500])
    records = prepare(request(root, out, "lidc"))
    assert [record.status for record in records] == ["ok", "ok", "ok", "excluded", "excluded"], records
    assert records[3].reasons == ("CT: a slice is damaged or cannot be decoded; copy the series again",)
    assert records[4].reasons == ("no radiograph (CR or DX) in the patient's folder",)
    assert {record.label for record in records} == {2} and records[0].hours_apart == 0
    planted(root, out)
    captured = capfd.readouterr()
    assert not any(name in captured.out + captured.err for name in NAMES)
    # Who is who is told beside the source, and to its owner only.
    who = (root / LIST_FILE).read_text()
    assert f"{NAMES[1]}-0" in who and records[0].patient in who
    for private in (LIST_FILE, KEY_FILE):
        assert (root / private).stat().st_mode & 0o077 == 0


def test_the_challenges_layout_of_rspect(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    header = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "negative_exam_for_pe", "indeterminate"]
    lines: list[list[object]] = []
    for number, (negative, unclear) in enumerate([(1, 0), (0, 0), (1, 0), (0, 0), (0, 1), (1, 0)]):
        study, series = f"{NAMES[3]}.{number}", f"{NAMES[3]}.{number}.1"
        slices = write_series(root / "train" / study / series, noisy(number), **tags(number))
        lines += [[study, series, path.stem, negative, unclear] for path in slices]
        if number == 5:
            slices[0].unlink()
    with (root / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])
    records = prepare(request(root, out, "rspect"))
    assert [record.status for record in records] == ["ok"] * 4 + ["excluded"] * 2
    assert [record.label for record in records[:4]] == [0, 1, 0, 1], "1 − negative_exam_for_pe"
    assert "indeterminate" in records[4].reasons[0]
    assert "60 slices; the folder of this series holds 59" in records[5].reasons[0]
    about = json.loads((out / "dataset.json").read_text())
    assert about["radiographs"] == ["drr"]
    with pytest.raises(UserError, match="has drr radiographs; 'xray' were asked for"):
        opened(out)
    planted(root, out)


def test_the_authors_tables_of_accession_numbers(tmp_path):
    root = tmp_path / "root"
    (root / "xrays").mkdir(parents=True)
    rows = [["CT_Accession_number", "cxr_Accession_number", "PE"]]
    for number in range(4):
        if number % 2:
            write_series(root / "cts" / f"40150{number}", noisy(number), **tags(number))
        else:
            write_ct(root / "cts" / f"40150{number}.nii.gz", noisy(number))
        write_picture(root / "xrays" / f"90{number}.png", grainy_xray(number))
        rows.append([f"40150{number}", f"90{number}", str(number % 2)])
    rows.append(["401509", "900", "1"])
    with (root / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    records = prepare(request(root, tmp_path / "out", "ctpa"))
    assert [(record.status, record.label) for record in records[:4]] == [("ok", 0), ("ok", 1), ("ok", 0), ("ok", 1)]
    assert records[4].reasons == ("CT_Accession_number: no files or folders below --root have this name",)


def accessions(root: Path, *rows: tuple[str, str]) -> None:
    lines = ["CT_Accession_number,cxr_Accession_number,PE", *(f"{ct},{xray},1" for ct, xray in rows)]
    (root / "table.csv").write_text("\n".join(lines))


def touched(root: Path, *names: str) -> list[Path]:
    """Empty files of these names."""
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_accession_numbers_stand_for_what_converters_and_archives_write(tmp_path):
    """dcm2niix, MetaImage in two files, PACS exports with nested folders, and pictures of several views."""
    touched(
        tmp_path,
        *("nii/A1.nii.gz", "nii/A1.json", "nii/A1.bval"),
        *("A2.mhd", "A2.raw", "A3.MHD", "A3.zraw"),
        *("pacs/A4/SER0001/IM0001", "pacs/A4/SER0001/IM0002", "pacs/A4/DICOMDIR", "pacs/A4/report.pdf"),
        *("A5/STUDY/SER/1.2.840.7", "A5/STUDY/SER/1.2.840.8"),
        *("A6/ct.nii.gz", "A6/ct.json"),
        *("A7/A7.nii.gz", "A7/A7.json", "A7/mask.nii.gz"),
        *("X1/PA/1.dcm", "X1/LL/1.dcm", "X1/readme.txt"),
        *("x/X2.png", "x/X2.json", "X3/view.jpeg"),
    )
    accessions(tmp_path, *((f"A{number}", f"X{(number - 1) % 3 + 1}") for number in range(1, 8)))
    listed = SOURCES.get("ctpa")(tmp_path)
    assert [one.problem for one in listed] == [""] * 7
    cts = ("nii/A1.nii.gz", "A2.mhd", "A3.MHD", "pacs/A4", "A5", "A6/ct.nii.gz", "A7/A7.nii.gz")
    assert [one.ct for one in listed] == [tmp_path / name for name in cts]
    assert [one.xray for one in listed[:3]] == [tmp_path / name for name in ("X1", "x/X2.png", "X3/view.jpeg")]


def test_accession_numbers_that_stand_for_several_things_or_none(tmp_path):
    touched(
        tmp_path,
        *(f"B1/SER{number}/{name}.dcm" for number in range(3) for name in "ab"),
        *("B2/one.nii", "B2/two.nii"),
        *("one/B3.nii.gz", "two/B3.nrrd"),
        *("B4/notes.txt", "B5/a.nii", "B5/dicom/a.dcm", "X1/a.png", "X2/ct.nii", "single.nii"),
    )
    accessions(tmp_path, *((name, "X1") for name in ("B1", "B2", "B3", "B4", "B5", "")), ("B5", "X2"))
    problems = [one.problem for one in SOURCES.get("ctpa")(tmp_path)]
    assert all(problem.startswith("CT_Accession_number: ") for problem in problems)
    for problem, part in zip(
        problems,
        (
            "holds 3 DICOM series",
            "holds 2 volumes",
            "2 files or folders",
            "no files or folders",
            "1 volume and 1 DICOM series",
            "is empty",
            "",
        ),
        strict=True,
    ):
        assert part in problem and "B" not in problem.removeprefix("CT_Accession_number"), problem
    accessions(tmp_path, ("single", "X2"))
    [listed] = SOURCES.get("ctpa")(tmp_path)
    assert listed.problem == "cxr_Accession_number: the folder holds no X-ray (PNG, JPEG, TIFF or DICOM)"


def test_many_accession_numbers_are_looked_up_in_linear_time(tmp_path, monkeypatch):
    touched(tmp_path, *(f"a/b/C{number}/s/{name}.dcm" for number in range(40) for name in "xyz"))
    touched(tmp_path, *(f"X{number}.png" for number in range(40)))
    accessions(tmp_path, *((f"C{number}", f"X{number}") for number in range(40)))
    walks = []
    walk = os.walk
    monkeypatch.setattr("os.walk", lambda *given, **more: walks.append(given) or walk(*given, **more))
    assert not any(one.problem for one in SOURCES.get("ctpa")(tmp_path)) and len(walks) == 1


def test_cells_that_name_folders(tmp_path):
    touched(
        tmp_path, "c1/ct.nii.gz", "c1/ct.json", "c2/1.dcm", "c2/2.dcm", "x1/a.png", "x2/a.png", "x2/b.png", "x3/a.txt"
    )
    rows = ["patient,ct,xray", "A,c1,x1", "B,c2,x2", "C,c2,x3"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    one, other, none = SOURCES.get("folder")(tmp_path)
    assert (one.ct, one.xray) == (tmp_path / "c1/ct.nii.gz", tmp_path / "x1/a.png")
    assert (other.ct, other.xray) == (tmp_path / "c2", tmp_path / "x2")
    assert none.problem == "xray: the folder holds no X-ray (PNG, JPEG, TIFF or DICOM)"


def test_a_date_that_cannot_be_read_is_a_remark_and_the_pair_stays(tmp_path):
    touched(tmp_path, "c.nii", "x.png")
    dates = ("2024-05-31T14:30:00Z", "2024-05-31 14:30:00.000", "05/31/2024", "05/06/2024", "last week", "")
    lines = [f"P{number},c.nii,x.png,{day},31.05.2024" for number, day in enumerate(dates)]
    (tmp_path / "pairs.csv").write_text("\n".join(["patient,ct,xray,ct_date,xray_date", *lines]))
    listed = SOURCES.get("folder")(tmp_path)
    assert not any(one.problem for one in listed) and all(one.xray_taken for one in listed)
    assert [one.ct_taken is not None for one in listed] == [True] * 3 + [False] * 3
    assert [len(one.remarks) for one in listed] == [0, 0, 0, 1, 1, 0]
    assert "day and month could be swapped" in listed[3].remarks[0] and "2024-05-31T14:30" in listed[4].remarks[0]
    assert not any("week" in remark or "05/06" in remark for one in listed for remark in one.remarks)


def test_a_long_table_with_one_bad_line_loses_one_line(tmp_path):
    lines = ["patient,ct,xray,label", *(f"P{n},ct.nii.gz,x.png,{n % 2}" for n in range(20_000))]
    lines[10_000] = 'P,"ct.nii.gz,x.png,0'
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    for name in ("ct.nii.gz", "x.png"):
        (tmp_path / name).touch()
    listed = SOURCES.get("folder")(tmp_path)
    assert len(listed) == 20_000
    assert [c.where for c in listed if c.problem] == ["pairs.csv line 10001"]


def test_a_table_without_headings_is_refused_without_quoting_a_patient(tmp_path):
    for first in (f"{NAMES[0]},ct0.nii.gz,xray.png", "patient ct xray", "patient,ct,xray,ct", ""):
        (tmp_path / "pairs.csv").write_text(f"{first}\nB,ct1.nii.gz,xray.png,0\n")
        with pytest.raises(UserError, match=r"pairs\.csv: expected headings joined by commas") as told:
            prepare(request(tmp_path, tmp_path.parent / "headless"))
        assert NAMES[0] not in str(told.value)


def test_a_table_of_another_programme_is_read(tmp_path):
    lines = make_folder(tmp_path / "root", 4)
    rows = [";".join(map(str, line.values())) for line in lines]
    (tmp_path / "root/pairs.csv").write_text("\ufeff" + "\r\n".join(["Patient;CT;XRay;Label", *rows]) + "\r\n")
    assert [(r.status, r.label) for r in prepare(request(tmp_path / "root", tmp_path / "out"))] == [
        ("ok", number % 2) for number in range(4)
    ]


def test_folders_whose_names_are_no_utf_8_are_patients_like_others(tmp_path):
    for number in range(2):
        folder = os.fsencode(tmp_path / "root") + b"/M\xfcller%d" % number
        write_series(Path(os.fsdecode(folder)) / "ct", noisy(number), **tags(number))
        (Path(os.fsdecode(folder)) / "dx").mkdir()
        write_dicom_xray(Path(os.fsdecode(folder)) / "dx/b.dcm", number, ViewPosition="PA")
    records = prepare(request(tmp_path / "root", tmp_path / "out", "lidc"))
    assert [record.status for record in records] == ["ok", "ok"]
    assert b"M\xfcller1" in (tmp_path / "root" / LIST_FILE).read_bytes()


RSPECT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "negative_exam_for_pe")
PLACES = ("pe_present_on_image", "leftsided_pe", "rightsided_pe", "central_pe")


def rspect_of(root: Path, headings: tuple[str, ...], lines: list[tuple[object, ...]]):
    for study, series, name, *_ in lines:
        touched(root, f"train/{study}/{series}/{name}.dcm")
    with (root / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([headings, *lines])
    return SOURCES.get("rspect")(root)


def test_where_rspect_saw_emboli(tmp_path):
    lines = [
        ("1.1", "1.1.1", "1.1.1.1", 0, 0, 1, 0, 0),
        ("1.1", "1.1.1", "1.1.1.2", 0, 1, 1, 0, 0),
        ("1.1", "1.1.1", "1.1.1.3", 0, 1, 1, 0, 0),
        ("1.2", "1.2.1", "1.2.1.1", 1, 0, 0, 0, 0),
        ("1.3", "1.3.1", "1.3.1.1", 0, "", "", "1.0", "maybe"),
        ("1.4", "1.4.1", "1.4.1.1", 0, "1.0", "", "1.0", "maybe"),
    ]
    positive, negative, untold, partly = rspect_of(tmp_path, (*RSPECT, *PLACES), lines)
    seen = positive.emboli
    assert (seen.left, seen.right, seen.central, seen.slices) == (1, 0, 0, {"1.1.1.2", "1.1.1.3"})
    assert (negative.label, negative.emboli.left, negative.emboli.slices) == (0, 0, frozenset())
    assert untold.emboli is None, "whether a slice shows one is not told"
    assert (partly.emboli.left, partly.emboli.right, partly.emboli.central) == (2, 1, 2)


def test_rspect_without_the_columns_of_places(tmp_path):
    [listed] = rspect_of(tmp_path, RSPECT, [("1.1", "1.1.1", "1.1.1.1", 0)])
    assert listed.emboli is None and listed.label == 1
