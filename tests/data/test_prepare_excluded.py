"""Preparing data sets: which pairs are left out or remarked on, with which reason, while the rest goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ct_files import frontal_xray, write_ct, write_picture, write_series
from prepare_files import SMALL, grainy_xray, make_folder, noisy, read_pairs, request, write_pairs

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.data.prepare.run import prepare
from x2c.data.volume import Volume

REAL = PROJECT.parent / "shared/realdata"


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
        "picture": ({"xray": "flat.png"}, "X-ray: not a whole picture"),
        "inverted": ({"xray": "inverted.png"}, "X-ray: looks inverted"),
    }


def test_each_bad_line_has_its_reason_and_the_rest_goes_on(own, capfd):
    root, out = own.root, own.out
    lines = read_pairs(root)[:4]
    write_picture(root / "inverted.png", 1 - frontal_xray())
    bad = bad_lines(root)
    for name, (line, _) in bad.items():
        stem = f"spare {name}.nii.gz"
        if "ct" not in line:
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
        "expected 4 cells; the line has 2",
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


def test_what_patients_share_is_left_out_and_the_same_ct_twice_is_taken_once(own):
    root = own.root
    lines = read_pairs(root)
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
    records = prepare(request(root, own.out))
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


def test_dates_far_apart_are_a_warning_and_strictly_a_reason(own):
    root = own.root
    lines = read_pairs(root)[:3]
    lines[0] |= {"ct_date": "2024-05-31", "xray_date": "2024-06-03"}
    lines[1] |= {"ct_date": "2024-05-31T10:00", "xray_date": "2024-05-31T20:00"}
    write_pairs(root, lines)
    records = prepare(request(root, own.out))
    assert [(r.status, r.hours_apart) for r in records[:3]] == [("warning", 72.0), ("ok", 10.0), ("ok", None)]
    strict = prepare(request(root, own.out, recipe=SMALL.model_copy(update={"strict": True})))
    assert [r.status for r in strict[:3]] == ["excluded", "ok", "ok"]


@pytest.mark.parametrize(
    ("labels", "remark"),
    [
        ([1] * 5, "labels are not both 0 and 1"),
        ([0, 1], "too few patients to train on"),
    ],
)
def test_what_training_would_refuse_is_said_at_the_end(own, capfd, labels, remark):
    lines = read_pairs(own.root)[: len(labels)]
    write_pairs(own.root, [{**line, "label": label} for line, label in zip(lines, labels, strict=True)])
    prepare(request(own.root, own.out))
    assert remark in capfd.readouterr().out


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


def test_where_no_pair_can_be_used_each_has_its_reason(tmp_path, capsys):
    lines = make_folder(tmp_path / "root", 2)
    write_pairs(tmp_path / "root", [{**line, "xray": lines[0]["xray"]} for line in lines])
    with pytest.raises(UserError, match="none of 2 pairs can be used"):
        prepare(request(tmp_path / "root", tmp_path / "out"))
    assert "".join(capsys.readouterr()).count("its X-ray stands under 2 patients") == 2
