"""Views by their headers: laterals refused, contradictions told, pictures turned upright, the frontal one found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ct_files import frontal_xray, write_picture
from pydicom.dataset import Dataset
from xray_files import write_dicom

from x2c.core.errors import FileError
from x2c.data.frontal import frontal_likeness
from x2c.data.readers import read_radiograph, read_xray
from x2c.data.views import frontal_of
from x2c.data.volume import Array

CHEST = frontal_xray(96)


def coded(code: str, meaning: str = "") -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", meaning
    return [item]


def write_xray(path: Path, grey: Array = CHEST, **tags: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_dicom(path, np.rint(grey * 4095).astype(int), WindowCenter=2048, WindowWidth=4096, **tags)


def reason(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        read_xray(path)
    return caught.value.reason


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"ViewPosition": "RL"}, "ViewPosition RL"),
        ({"ViewPosition": "lateral"}, "ViewPosition LATERAL"),
        ({"ViewPosition": "LLO"}, "ViewPosition LLO"),
        ({"ViewPosition": "RAO"}, "ViewPosition RAO"),
        ({"ViewCodeSequence": coded("R-10236")}, "ViewCodeSequence left lateral"),
        ({"ViewCodeSequence": coded("399067008", "nonsense")}, "ViewCodeSequence lateral"),
        ({"ViewCodeSequence": coded("99-OWN", "Lateral")}, "ViewCodeSequence lateral"),
        ({"PatientOrientation": ["A", "F"]}, r"PatientOrientation A\F"),
        ({"PatientOrientation": ["PL", "FA"]}, r"PatientOrientation P\F"),
        ({"PatientOrientation": ["L", "P"]}, r"PatientOrientation L\P"),
    ],
)
def test_other_views_are_refused_in_dicoms_words(tags, named, tmp_path):
    told = reason(write_xray(tmp_path / "x.dcm", **tags))
    assert told == f"expected a frontal view (PA or AP); got {named}; give the frontal X-ray"


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"ViewPosition": "AP"},
        {"ViewPosition": "Smith"},
        {"ViewPosition": ""},
        {"ViewCodeSequence": coded("R-10206")},
        {"ViewCodeSequence": coded("272479007")},
        {"ViewCodeSequence": coded("R-10214")},
        {"ViewCodeSequence": coded("12345", "Smith")},
        {"PatientOrientation": ["L", "F"], "ViewPosition": "PA"},
        {"PatientOrientation": None},
        {"PatientOrientation": ["L", "R"]},
        {"PatientOrientation": ["X", "Y"]},
        {"PatientOrientation": ["A", "F"], "AnatomicalOrientationType": "QUADRUPED"},
    ],
)
def test_frontal_views_and_unknown_words_pass_as_they_are(tags, tmp_path):
    read = read_xray(write_xray(tmp_path / "x.dcm", **tags))
    np.testing.assert_allclose(read.picture, CHEST, atol=0.001)
    assert read.remarks == ()


@pytest.mark.parametrize("view", ["LLD", "RLD"])
def test_decubitus_is_warned_of(view, tmp_path):
    ((severity, text),) = read_xray(write_xray(tmp_path / "x.dcm", ViewPosition=view)).remarks
    assert severity == "warning"
    assert "decubitus" in text


@pytest.mark.parametrize(
    ("tags", "parts"),
    [
        (
            {"ViewPosition": "PA", "ViewCodeSequence": coded("R-10236")},
            ["ViewPosition PA", "ViewCodeSequence left lateral"],
        ),
        ({"ViewPosition": "AP", "PatientOrientation": ["P", "F"]}, ["ViewPosition AP", r"PatientOrientation P\F"]),
        ({"ViewPosition": "LL", "PatientOrientation": ["L", "F"]}, ["ViewPosition LL", r"PatientOrientation L\F"]),
    ],
)
def test_a_header_that_contradicts_itself_is_told_what_by_what(tags, parts, tmp_path):
    told = reason(write_xray(tmp_path / "x.dcm", PatientName="Smith", **tags))
    for part in ["contradicts itself", *parts]:
        assert part in told
    assert "Smith" not in told


STORED = {
    ("L", "F"): (CHEST, None),
    ("R", "F"): (CHEST[:, ::-1], "warning"),
    ("L", "H"): (CHEST[::-1], "warning"),
    ("R", "H"): (CHEST[::-1, ::-1], "note"),
    ("F", "L"): (CHEST.T, "warning"),
    ("F", "R"): (np.rot90(CHEST), "note"),
    ("H", "L"): (np.rot90(CHEST, -1), "note"),
    ("H", "R"): (CHEST[::-1, ::-1].T, "warning"),
}
"""The chest as it lies where rows and columns run to these directions, by numpy's own turns, and what is said of it."""


@pytest.mark.parametrize("towards", STORED)
def test_a_picture_is_turned_to_the_standard_display(towards, tmp_path):
    grey, expected = STORED[towards]
    read = read_xray(write_xray(tmp_path / "x.dcm", grey, PatientOrientation=list(towards)))
    np.testing.assert_allclose(read.picture, CHEST, atol=0.001)
    assert [severity for severity, _ in read.remarks] == ([expected] if expected else [])
    if expected == "warning":
        assert "the header says it was stored mirrored" in read.remarks[0][1]
        assert "is the header wrong?" not in read.remarks[0][1]


def test_a_header_that_calls_an_upright_chest_mirrored_is_doubted(tmp_path):
    read = read_xray(write_xray(tmp_path / "x.dcm", PatientOrientation=["R", "F"]))
    np.testing.assert_allclose(read.picture, CHEST[:, ::-1], atol=0.001)
    ((severity, text),) = read.remarks
    assert severity == "warning"
    assert "the heart now seems to lie on the patient's right: is the header wrong?" in text


def test_the_frontal_one_of_several_is_found_by_header_and_then_by_picture(tmp_path):
    noise = np.random.default_rng(0).random((96, 96)).astype(np.float32)
    assert frontal_likeness(CHEST) > 0.6 > frontal_likeness(noise)
    lateral = write_xray(tmp_path / "a.dcm", noise, ViewPosition="LL")
    unsaid = write_xray(tmp_path / "b.dcm", noise)
    picture = write_picture(tmp_path / "c.png", CHEST)
    assert frontal_of([lateral, unsaid, picture]) == picture, "by its picture, where headers say nothing"
    lying = write_xray(tmp_path / "d.dcm", ViewPosition="LLD")
    assert frontal_of([lying, unsaid]) == unsaid
    assert frontal_of([lying, lateral]) == lying
    by_code = write_xray(tmp_path / "e.dcm", noise, ViewCodeSequence=coded("399348003"))
    assert frontal_of([picture, by_code, lateral]) == by_code, "a header counts more than a picture"
    by_orientation = write_xray(tmp_path / "f.dcm", PatientOrientation=["L", "F"])
    assert frontal_of([by_code, by_orientation]) == by_orientation
    twin = Path(shutil.copy(by_orientation, tmp_path / "e2.dcm"))
    assert frontal_of([by_orientation, twin]) == twin, "of equals the first by name"


def test_what_cannot_be_read_comes_last(tmp_path):
    broken = write_xray(tmp_path / "a.dcm", ViewPosition="PA", Rows=60000)
    lateral = write_xray(tmp_path / "b.dcm", ViewPosition="LL")
    good = write_xray(tmp_path / "c.dcm")
    gone, text = tmp_path / "gone.dcm", tmp_path / "d.txt"
    text.write_text("no picture")
    assert frontal_of([broken, lateral, gone, good, text]) == good
    assert frontal_of([lateral]) == lateral
    assert frontal_of([broken, lateral]) == broken, "none can be used: reading the likeliest tells why"


def test_a_folder_stands_for_its_frontal_picture(tmp_path):
    folder = tmp_path / "study"
    write_xray(folder / "1/a.dcm", np.rot90(CHEST), ViewPosition="LL")
    write_xray(folder / "2/IM0001", ViewPosition="PA", PatientID="4711")
    (folder / "notes.txt").write_text("Smith")
    (folder / ".hidden.dcm").write_bytes((folder / "1/a.dcm").read_bytes())
    read = read_xray(folder)
    np.testing.assert_allclose(read.picture, CHEST, atol=0.001)
    assert read.person == "4711"
    assert read.remarks == (("note", "2 pictures lie in the folder: the frontal one was taken"),)
    shutil.rmtree(folder / "1")
    assert read_xray(folder).remarks == ()
    np.testing.assert_array_equal(read_radiograph(folder), read.picture)
    shutil.rmtree(folder / "2")
    with pytest.raises(FileError, match="expected a folder with a radiograph") as caught:
        read_xray(folder)
    assert caught.value.path == folder


def test_of_a_folder_without_a_frontal_picture_the_reason_is_told(tmp_path):
    write_xray(tmp_path / "study/a.dcm", ViewPosition="LL")
    write_xray(tmp_path / "study/b.dcm", ViewPosition="RL")
    with pytest.raises(FileError, match="got ViewPosition LL") as caught:
        read_xray(tmp_path / "study")
    assert caught.value.path == tmp_path / "study"
