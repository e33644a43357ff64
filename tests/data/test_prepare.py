"""Preparing data sets from files on disk: what is stored, what is left out, what is never told."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from ct_files import chest, frontal_xray, write_ct, write_picture, write_series

from x2c.core.config import Resolution
from x2c.core.errors import UserError
from x2c.core.registry import DATASETS
from x2c.core.script import PROJECT
from x2c.data.cohort import Cohort
from x2c.data.prepare.pair import Record
from x2c.data.prepare.pseudonyms import KEY_FILE, LIST_FILE
from x2c.data.prepare.recipe import Recipe
from x2c.data.prepare.run import Request, prepare
from x2c.data.prepare.store import read_manifest
from x2c.data.volume import Array, Volume

REAL = PROJECT.parent / "shared/realdata"
SMALL = Recipe(size=(16, 32, 32), radiograph_size=48)
NAMES = ("ZZTOP^GIACOMO", "MRN-4711-0815", "19610228", "1.2.840.99999.123456789")
"""Planted where hospitals put them: a name, an id, a birth date, a UID."""


def noisy(seed: int) -> Volume:
    """The same chest with another patient's noise."""
    base = chest()
    hu = base.hu + np.random.default_rng(seed).normal(0, 8, base.hu.shape).astype(np.float32)
    return Volume(hu, base.spacing_mm, base.origin_mm, base.direction)


def grainy_xray(seed: int) -> Array:
    """The same radiograph with another patient's noise."""
    return np.clip(frontal_xray() + np.random.default_rng(seed).normal(0, 0.02, (128, 128)), 0, 1)


def write_pairs(root: Path, lines: list[dict[str, object]]) -> None:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    with (root / "pairs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(lines)


def make_folder(root: Path, count: int = 8) -> list[dict[str, object]]:
    """A folder data set of `count` patients, alternately with and without an embolism; returns its lines."""
    root.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for number in range(count):
        write_ct(root / f"ct{number}.nii.gz", noisy(number))
        write_picture(root / f"xray{number}.png", grainy_xray(number))
        files = {"ct": f"ct{number}.nii.gz", "xray": f"xray{number}.png"}
        lines.append({"patient": f"A{number}", **files, "label": number % 2})
    write_pairs(root, lines)
    return lines


def request(root: Path, out: Path, source: str = "folder", **changes: object) -> Request:
    return Request(**{"source": source, "root": root, "out": out, "recipe": SMALL, "workers": 1, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Record]]:
    """Eight patients, prepared: root, out, records."""
    base = tmp_path_factory.mktemp("prepared")
    make_folder(base / "root")
    return base / "root", base / "out", prepare(request(base / "root", base / "out"))


def opened(out: Path, size: str = "32x32x8", **options: object) -> Cohort:
    entry = DATASETS.get("prepared")
    resolution = Resolution(size=size, reduction=1)
    return entry(entry.Options(folder=str(out), **options)).open(out.parent / "cache", resolution, 1)


def test_every_pair_becomes_two_volumes_that_together_are_the_lungs_box(made):
    _, out, records = made
    assert [record.status for record in records] == ["ok"] * 8, [record.reasons for record in records]
    manifest = read_manifest(out)
    assert len(manifest) == 16 and manifest["patient"].nunique() == 8
    assert sorted(manifest["label"].value_counts().to_dict().items()) == [(0, 8), (1, 8)]
    cohort = opened(out)
    assert cohort.hu.shape == (16, 8, 32, 32)
    even, odd = cohort.hu[0].astype(float), cohort.hu[1].astype(float)
    assert np.corrcoef(even.ravel(), odd.ravel())[0, 1] > 0.85 and not np.array_equal(even, odd)
    lung = (even < -500).mean()
    assert 0.3 < lung < 0.8, "cropped to the lungs' box, which they fill about half"
    dz, dy, dx = cohort.spacing_mm
    truth = chest()
    whole = np.array(truth.hu.shape) * truth.spacing_mm
    assert (np.array([8 * dz, 32 * dy, 32 * dx]) < whole).all()


def test_radiographs_and_projections_are_both_there(made):
    _, out, _ = made
    xray, drr = opened(out).xrays(np.arange(16)), opened(out, radiographs="drr").xrays(np.arange(16))
    assert xray.shape == drr.shape == (16, 48, 48)
    np.testing.assert_array_equal(xray[0], xray[1])
    assert np.corrcoef(drr[0].ravel(), drr[2].ravel())[0, 1] > 0.98, "the same chest with other noise"
    assert np.corrcoef(xray[0].ravel(), drr[0].ravel())[0, 1] > 0.3


def test_a_second_half_can_have_a_pose_of_its_own(tmp_path):
    make_folder(tmp_path / "root", 4)
    prepare(request(tmp_path / "root", tmp_path / "out", recipe=SMALL.model_copy(update={"drr_poses": "random"})))
    drr = opened(tmp_path / "out", radiographs="drr").xrays(np.arange(8))
    assert all(np.abs(first - second).mean() > 0.01 for first, second in zip(drr[::2], drr[1::2], strict=True))
    assert np.abs(drr[1] - drr[3]).mean() > 0.01, "another patient, another pose"


def test_smaller_sample_sizes_are_averaged_and_larger_ones_refused(made):
    _, out, _ = made
    full, small = opened(out), opened(out, "16x16x4")
    assert small.hu.shape == (16, 4, 16, 16) and small.fingerprint != full.fingerprint
    assert small.spacing_mm == pytest.approx([2 * mm for mm in full.spacing_mm])
    blocks = full.hu[3].reshape(4, 2, 16, 2, 16, 2).mean((1, 3, 5))
    assert np.corrcoef(blocks.ravel(), small.hu[3].ravel())[0, 1] > 0.99
    assert abs(blocks.mean() - small.hu[3].mean()) < 5
    with pytest.raises(UserError, match="prepare it again with --size 64x64x16"):
        opened(out, "64x64x8")


def test_nothing_is_loaded_before_it_is_read(made):
    cohort = opened(made[1])
    assert isinstance(cohort.hu[0], np.memmap) and isinstance(cohort.radiographs[3], np.memmap)
    np.testing.assert_array_equal(cohort.hu[2:5], np.stack([cohort.hu[row] for row in (2, 3, 4)]))
    np.testing.assert_array_equal(cohort.hu[np.array([7, 1])][1], cohort.hu[1])


def test_the_same_files_and_key_give_the_same_data_set_however_many_processes(made, tmp_path):
    root, out, _ = made
    prepare(request(root, tmp_path / "again", workers=2))
    first, again = (json.loads((folder / "dataset.json").read_text()) for folder in (out, tmp_path / "again"))
    assert first["fingerprint"] == again["fingerprint"]
    other = prepare(request(root, tmp_path / "other", seed=1))
    assert [record.study for record in other] == [record.study for record in made[2]]
    assert json.loads((tmp_path / "other/dataset.json").read_text())["fingerprint"] != first["fingerprint"]


def test_only_what_changed_is_made_again(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    lines = make_folder(root, 5)
    studies = [record.study for record in prepare(request(root, out))]
    times = {study: (out / "pairs" / study / "record.json").stat().st_mtime_ns for study in studies}
    write_ct(root / "ct1.nii.gz", noisy(77))
    lines[2]["label"] = 1
    write_pairs(root, lines[:4])
    records = prepare(request(root, out))
    changed = [(out / "pairs" / r.study / "record.json").stat().st_mtime_ns != times[r.study] for r in records]
    assert changed == [False, True, False, False]
    assert [record.label for record in records] == [0, 1, 1, 1], "labels are the listing's, not the stored pair's"
    assert not (out / "pairs" / studies[4]).exists(), "what is no longer listed is removed"
    assert read_manifest(out)["study"].nunique() == 4


def test_a_changed_manifest_and_a_changed_data_set_are_noticed(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made[1], out)
    known = json.loads((out / "dataset.json").read_text())["fingerprint"]
    with pytest.raises(UserError, match=r"was prepared anew since: expected fingerprint 0123; it is"):
        DATASETS.get("prepared").Options(folder=str(out), fingerprint="0123")
    assert DATASETS.get("prepared").Options(folder=str(out), fingerprint=known).fingerprint == known
    manifest = pd.read_parquet(out / "manifest.parquet")
    manifest.loc[0, "label"] = 1 - manifest.loc[0, "label"]
    manifest.to_parquet(out / "manifest.parquet")
    with pytest.raises(UserError, match=r"not a manifest of format|was changed after it was written"):
        opened(out)
    (out / "dataset.json").unlink()
    with pytest.raises(UserError, match="not a prepared data set"):
        opened(out)


def bad_lines(root: Path) -> dict[str, tuple[dict[str, object], str]]:
    """What goes wrong in a folder of files: the line that lists it and the reason that is given."""
    import gzip

    good = (root / "ct0.nii.gz").read_bytes()
    (root / "short.nii.gz").write_bytes(good[: len(good) // 2])
    (root / "text.nii.gz").write_text("ZZTOP^GIACOMO")
    (root / "blank.nii.gz").write_bytes(gzip.compress(b""))
    (root / "flat.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (root / "empty").mkdir()
    write_ct(root / "solid.nii.gz", Volume(np.full((40, 48, 48), 40, np.float32), (5.0, 5.0, 5.0)))
    os.symlink(root / "loop", root / "loop")
    (root / "cycle").mkdir()
    os.symlink(root / "cycle", root / "cycle/again")
    for half in (0, 1):
        write_series(root / "mixed", noisy(half), prefix=f"{half}_", SeriesInstanceUID=f"1.2.3.{half}")
    return {
        "truncated": ({"ct": "short.nii.gz"}, "CT: the file ends early or is damaged"),
        "non-image": ({"ct": "text.nii.gz"}, "CT: not a NIfTI image"),
        "blank": ({"ct": "blank.nii.gz"}, "CT: not a NIfTI image"),
        "solid": ({"ct": "solid.nii.gz"}, "every voxel has the same value"),
        "mixed": ({"ct": "mixed"}, "CT: 2 series are mixed"),
        "empty": ({"ct": "empty"}, "CT: the folder is empty"),
        "cycle": ({"ct": "cycle"}, "CT: the folder is empty"),
        "loop": ({"ct": "loop"}, "ct: cannot be opened"),
        "outside": ({"ct": "../ct0.nii.gz"}, "ct: the path leads out of --root"),
        "absolute": ({"ct": "/etc/hostname"}, "ct: the path leads out of --root"),
        "absent": ({"ct": "nowhere.nii.gz"}, "ct: there is no such file"),
        "unnamed": ({"patient": ""}, "patient: the cell is empty"),
        "unlabelled": ({"label": ""}, "label: expected 0 or 1; the cell is empty"),
        "labelled 2": ({"label": 2}, "label: expected 0 or 1; it is something else"),
        "dated": ({"ct_date": "yesterday"}, "ct_date: not a date"),
        "picture": ({"xray": "flat.png"}, "X-ray: not a whole picture"),
        "inverted": ({"xray": "inverted.png"}, "X-ray: looks inverted"),
    }


def test_each_bad_line_has_its_reason_and_the_rest_goes_on(tmp_path, capfd):
    root, out = tmp_path / "root", tmp_path / "out"
    lines = make_folder(root, 4)
    write_picture(root / "inverted.png", 1 - frontal_xray())
    bad = bad_lines(root)
    for name, (line, _) in bad.items():
        stem = f"spare {name}.nii.gz"
        write_ct(root / stem, noisy(100 + len(lines)))
        write_picture(root / f"spare {name}.png", grainy_xray(100 + len(lines)))
        lines.append({"patient": f"B {name}", "ct": stem, "xray": f"spare {name}.png", "label": 0, **line})
    write_pairs(root, lines)
    with (root / "pairs.csv").open("ab") as stream:
        stream.write(
            'C,"ct0.nii.gz,xray0.png,0,\nD,ct1.nii.gz\nM\u00fcller,ct0.nii.gz,xray0.png,0,\n'.encode("latin-1")
        )
    records = prepare(request(root, out))
    for record, (name, (_, reason)) in zip(records[4:], bad.items(), strict=False):
        assert record.status == "excluded" and any(reason in told for told in record.reasons), (name, record)
    assert [r.reasons[0] for r in records[-3:]] == [
        "the line is not valid CSV (an open quotation mark?)",
        "expected 5 cells; the line has 2",
        "the line is not UTF-8; save the table as UTF-8",
    ]
    assert [record.status for record in records[:4]] == ["ok"] * 4
    told = capfd.readouterr().out
    assert f"4 ok, 0 warning, {len(bad) + 3} excluded" in told
    report = (out / "report.csv").read_text()
    assert report.count("\n") == len(records) + 1
    for record in records[4:]:
        left = [path.name for path in (out / "pairs" / record.study).glob("*")]
        assert left == (["record.json"] if record.stamp else []), "what the table rules out leaves nothing at all"


def test_what_patients_share_is_left_out_and_the_same_ct_twice_is_taken_once(tmp_path):
    root = tmp_path / "root"
    lines = make_folder(root, 8)
    shutil.copy(root / "ct0.nii.gz", root / "copy of ct0.nii.gz")
    shutil.copy(root / "xray4.png", root / "copy of xray4.png")
    lines[1]["patient"] = lines[0]["patient"] = "A"  # one patient may have two CTs and one X-ray
    lines[1]["xray"] = lines[0]["xray"]
    lines[3]["ct"] = "copy of ct0.nii.gz"  # the same voxels under another name
    lines[5]["xray"] = "copy of xray4.png"
    lines[7]["xray"] = lines[6]["xray"]  # a picture under two patients
    lines.append(dict(lines[1]))  # a line twice
    lines.append({**lines[2], "patient": "C"})  # a file under two patients
    write_pairs(root, lines)
    records = prepare(request(root, tmp_path / "out"))
    assert [r.status == "ok" for r in records] == [False, True] + [False] * 8
    assert [r.reasons[-1].partition(", as one")[0] for r in records if r.status != "ok"] == [
        "its CT is the same, voxel by voxel",
        "its CT stands under 2 patients",
        "its CT is the same, voxel by voxel",
        "its X-ray is the same, pixel by pixel",
        "its X-ray is the same, pixel by pixel",
        "its X-ray stands under 2 patients",
        "its X-ray stands under 2 patients",
        "its CT is listed twice; see pairs.csv line 3",
        "its CT stands under 2 patients",
    ]
    assert "another patient (pairs.csv line 5)" in records[0].reasons[0]


def test_dates_far_apart_are_a_warning_and_strictly_a_reason(tmp_path):
    root = tmp_path / "root"
    lines = make_folder(root, 4)
    lines[0] |= {"ct_date": "2024-05-31", "xray_date": "2024-06-03"}
    lines[1] |= {"ct_date": "2024-05-31T10:00", "xray_date": "2024-05-31T20:00"}
    write_pairs(root, lines)
    records = prepare(request(root, tmp_path / "out"))
    assert [(r.status, r.hours_apart) for r in records[:3]] == [("warning", 72.0), ("ok", 10.0), ("ok", None)]
    strict = prepare(request(root, tmp_path / "strict", recipe=SMALL.model_copy(update={"strict": True})))
    assert [r.status for r in strict[:3]] == ["excluded", "ok", "ok"]


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


def test_a_long_table_with_one_bad_line_loses_one_line(tmp_path):
    lines = ["patient,ct,xray,label", *(f"P{n},ct.nii.gz,x.png,{n % 2}" for n in range(100_000))]
    lines[50_000] = 'P,"ct.nii.gz,x.png,0'
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    for name in ("ct.nii.gz", "x.png"):
        (tmp_path / name).touch()
    from x2c.core.registry import SOURCES

    listed = SOURCES.get("folder")(tmp_path)
    assert len(listed) == 100_000
    assert [c.where for c in listed if c.problem] == ["pairs.csv line 50001"]


def test_a_table_without_headings_is_refused_without_quoting_a_patient(tmp_path):
    for first in (f"{NAMES[0]},ct0.nii.gz,xray.png", "patient ct xray", "patient,ct,xray,ct", ""):
        (tmp_path / "pairs.csv").write_text(f"{first}\nB,ct1.nii.gz,xray.png,0\n")
        with pytest.raises(UserError, match=r"pairs\.csv: expected headings joined by commas") as told:
            prepare(request(tmp_path, tmp_path.parent / "headless"))
        assert NAMES[0] not in str(told.value)


@pytest.mark.parametrize(
    "option",
    ["--size=0x0x0", "--size=foo", "--splits=8:1", "--splits=-1:1:1", "--workers=-1", "--margin-mm=nan", "--seed=x"],
)
def test_a_wrong_option_is_one_line(option, tmp_path):
    line = [sys.executable, "x2c/prepare.py", "--source=folder", f"--root={tmp_path}", f"--out={tmp_path}-out", option]
    run = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
    name = option.partition("=")[0]
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and f"argument {name}: " in run.stderr
    assert "expected" in run.stderr or "invalid int value" in run.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": Path("nowhere")}, r"--root: no folder nowhere"),
        ({"source": "foldr"}, "unknown source 'foldr'; did you mean 'folder'"),
        ({"recipe": SMALL.model_copy(update={"size": (15, 32, 32)})}, "expected an even depth"),
        ({"splits": (0, 0, 0)}, "--splits: expected numbers"),
        ({"recipe": SMALL.model_copy(update={"lungs": "lungmask"})}, "--lungs: lungmask needs the package"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(made, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prepare(request(**{"root": made[0], "out": tmp_path / "out", **change}))


def test_no_folder_of_something_else_is_written_to(made, tmp_path):
    root, out, _ = made
    with pytest.raises(UserError, match="lies in --root"):
        prepare(request(root, root / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and no prepared data set"):
        prepare(request(root, tmp_path / "mine"))
    make_folder(tmp_path / "other", 1)
    with pytest.raises(UserError, match="was prepared from another source"):
        prepare(request(tmp_path / "other", out))
    with pytest.raises(UserError, match=r"pairs\.csv: expected in --root"):
        prepare(request(tmp_path / "mine", tmp_path / "new", key=tmp_path))
    with pytest.raises(UserError, match="--key: lies in --out"):
        prepare(request(root, tmp_path / "given", key=tmp_path / "given/key"))
    assert not (tmp_path / "given").exists()
    assert opened(out)


def test_roots_that_share_a_key_have_an_out_and_a_list_each(tmp_path):
    for name in ("a", "b"):
        make_folder(tmp_path / name, 2)
        prepare(request(tmp_path / name, tmp_path / f"{name}_out", key=tmp_path))
    lists = [path.read_text() for path in tmp_path.glob("x2c_patients_*.csv")]
    assert len(lists) == 2 and all(text.count("A1") == 1 for text in lists)
    with pytest.raises(UserError, match="was prepared from another source"):
        prepare(request(tmp_path / "b", tmp_path / "a_out", key=tmp_path))
    assert not (tmp_path / "a" / KEY_FILE).exists(), "the sources need not be written to"


def test_a_stored_array_that_was_damaged_is_told_when_read_and_made_again_when_prepared(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    make_folder(root, 4)
    records = prepare(request(root, out))
    victim = out / "pairs" / records[1].study / "hu.npy"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-7] + b"\0\0\x11\0\0\0\0")
    with pytest.raises(UserError, match=r"hu\.npy in .*: missing or changed since it was prepared"):
        opened(out)
    prepare(request(root, out))
    assert victim.read_bytes() == whole
    assert opened(out)
    victim.write_bytes(whole[:-7])
    with pytest.raises(UserError, match=r"1 of .* cut short"):
        opened(out).hu[0]


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


@pytest.mark.parametrize(
    ("labels", "count", "remark"),
    [
        ([1] * 5, 5, "labels are not both 0 and 1"),
        ([0, 1], 2, "too few patients to train on"),
    ],
)
def test_what_training_would_refuse_is_said_at_the_end(tmp_path, capfd, labels, count, remark):
    lines = make_folder(tmp_path / "root", count)
    write_pairs(tmp_path / "root", [{**line, "label": label} for line, label in zip(lines, labels, strict=True)])
    prepare(request(tmp_path / "root", tmp_path / "out"))
    assert remark in capfd.readouterr().out


def killed(*_: object, **__: object) -> Record:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
def test_a_worker_killed_for_memory_is_one_line(tmp_path, monkeypatch):
    from x2c.data.prepare import run

    make_folder(tmp_path / "root", 4)
    monkeypatch.setattr(run, "_make", killed)
    with pytest.raises(UserError, match=r"--workers: one of 2 processes was killed"):
        prepare(request(tmp_path / "root", tmp_path / "out", workers=2))


def typed(root: Path, out: Path) -> list[str]:
    arguments = ["--source", "folder", "--root", str(root), "--out", str(out), "--size", "32x32x16"]
    return [sys.executable, "x2c/prepare.py", *arguments, "--workers", "2"]


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_data_set(tmp_path):
    root = tmp_path / "root"
    make_folder(root, 10)
    assert subprocess.run(typed(root, tmp_path / "calm"), cwd=PROJECT, capture_output=True).returncode == 0
    out = tmp_path / "out"
    process = subprocess.Popen(
        typed(root, out), cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("pairs/s*/record.json"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("pairs/s*/record.json")}
    assert 3 <= len(before) < 10
    run = subprocess.run(typed(root, out), cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0 and "10 ok, 0 warning, 0 excluded" in run.stdout
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), "what was done is not done again"
    calm, resumed = ((tmp_path / name / "dataset.json").read_text().replace(name, "") for name in ("calm", "out"))
    assert calm == resumed
    assert not [path for path in out.rglob(".*") if path.name not in (".lock",)], "nothing half-written is left"


@pytest.mark.slow
def test_a_variant_is_trained_on_a_prepared_data_set(made, tmp_path):
    """From files to scores: unconditional stages, mirrored pairs, a loss with labels."""
    _, out, _ = made
    line = [sys.executable, "x2c/train.py", "--variant=full", "--scale=smoke", f"--data={out}", "--tracker=none"]
    line += [f"--runs={tmp_path / 'runs'}", f"--compute.cache={tmp_path / 'cache'}", "--dataset.flip=true"]
    run = subprocess.run([*line, "--resolution.reduction=8"], cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (directory,) = (tmp_path / "runs").glob("full-smoke-s0-*")
    tested = read_manifest(out).query("split == 'test'")["patient"].unique()
    assert sorted(pd.read_parquet(directory / "scores.parquet")["patient"]) == sorted(tested)


@pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
def test_a_real_chest_is_taken_and_what_is_none_is_not(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    names = ("thorax_contrast", "abdomen_thin", "pulmonary_crop")
    for name in names:
        os.symlink(REAL / f"ct/{name}.nii.gz", root / f"{name}.nii.gz")
    os.symlink(REAL / "cxr/00000001_000.png", root / "xray.png")
    for name in names[1:]:
        write_picture(root / f"{name}.png", frontal_xray(seed=len(name)))
    pictures = ("xray.png", *(f"{name}.png" for name in names[1:]))
    write_pairs(
        root,
        [
            {"patient": name, "ct": f"{name}.nii.gz", "xray": picture, "label": 0}
            for name, picture in zip(names, pictures, strict=True)
        ],
    )
    thorax, abdomen, crop = prepare(request(root, tmp_path / "out"))
    assert thorax.status == "ok" and 3000 < thorax.lung_ml < 5000
    assert "no lungs" in abdomen.reasons[0] and "field of view cuts them off" in crop.reasons[0]
