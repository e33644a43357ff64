"""Trouble of the machine ends a preparation with its name, and is no reason to leave a pair out."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest
from prepare_files import SMALL, make_folder, request

from x2c.core.errors import FileError, UserError
from x2c.core.script import PROJECT
from x2c.data.prepare import make, run
from x2c.data.prepare.run import prepare
from x2c.data.prepare.trouble import cannot_be_opened, machine_trouble
from x2c.data.sources import folder as source


def failing(error, when=lambda *_: True):
    def fail(*args, **_):
        if when(*args):
            raise error

    return fail


def hide(error):
    try:
        raise error
    except OSError:
        raise FileError(PROJECT, "damaged") from None


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "ENOMEM", "ESTALE"])
def test_a_system_error_has_its_name(name):
    number = getattr(errno, name)
    assert machine_trouble(OSError(number, "x")) == f"{os.strerror(number)} ({name})"
    assert machine_trouble(MemoryError()) == "out of memory (MemoryError)"


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "Exception thrown: ITK ERROR: Failed to allocate memory for image.",
        "std::bad_alloc",
    ],
)
def test_memory_that_torch_or_itk_lacks_is_the_machines_trouble(text):
    assert machine_trouble(RuntimeError(text)) == "out of memory (MemoryError)"
    assert machine_trouble(RuntimeError("size mismatch")) == machine_trouble(ValueError(text)) == ""


def test_an_error_that_hides_the_systems_is_looked_behind():
    with pytest.raises(FileError) as caught:
        hide(OSError(errno.EIO, "patient's file"))
    assert machine_trouble(caught.value) == "Input/output error (EIO)" and not cannot_be_opened(caught.value)
    assert machine_trouble(PermissionError(errno.EACCES, "x")) == machine_trouble(ValueError()) == ""


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("_write_array", OSError(errno.ENOSPC, "x"), "No space left on device (ENOSPC)"),
        ("read_image", OSError(errno.EDQUOT, "x"), "(EDQUOT)"),
        ("coarse", MemoryError(), "out of memory (MemoryError)"),
    ],
)
def test_trouble_stops_all_and_leaves_nothing_that_looks_finished(own, place, error, told, monkeypatch):
    root, out = own.root, own.out
    os.utime(root / "ct0.nii.gz", ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(make, place, failing(error))
        with pytest.raises(UserError, match=r"the preparation stopped at pairs\.csv line 2: ") as caught:
            prepare(request(root, out))
    assert told in str(caught.value) and "goes on where it stopped" in str(caught.value)
    assert not (out / "dataset.json").exists()
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    records = prepare(request(root, out))
    assert [one.status for one in records] == ["ok"] * 8 and (out / "dataset.json").exists()


@pytest.mark.parametrize("place", ["write_report", "write_store", "draw_sheet", "write_list"])
def test_trouble_at_the_end_is_told_too(own, place, monkeypatch):
    (own.out / "dataset.json").unlink()
    monkeypatch.setattr(run, place, failing(OSError(errno.ENOSPC, "x")))
    with pytest.raises(UserError, match="No space left on device"):
        prepare(request(own.root, own.out))
    assert not (own.out / "dataset.json").exists() or place == "draw_sheet"


def test_a_file_that_could_not_be_opened_is_tried_again(own, monkeypatch):
    root, out = own.root, own.out
    os.utime(root / "ct1.nii.gz", ns=(1, 1))
    denied = PermissionError(errno.EACCES, "Permission denied")

    def refuse(path, *_):
        if path.name == "ct1.nii.gz":
            raise FileError(path, "cannot be read (Permission denied)") from denied
        return read(path, *_)

    read = make.read_image
    monkeypatch.setattr(make, "read_image", refuse)
    records = prepare(request(root, out))
    assert [one.status for one in records] == ["ok", "excluded", *["ok"] * 6]
    assert records[1].reasons == ("CT: cannot be read (Permission denied)",)
    monkeypatch.undo()
    assert [one.status for one in prepare(request(root, out))] == ["ok"] * 8


def test_a_folder_that_may_be_listed_and_not_entered_leaves_out_its_pair_alone(own, monkeypatch, capsys):
    from x2c.data.prepare import pair

    stamp = pair._stamp

    def refuse(candidate, recipe):
        if candidate.ct.name == "ct2.nii.gz":
            raise PermissionError(errno.EACCES, "Permission denied", "/data/zztop/ct2.nii.gz")
        return stamp(candidate, recipe)

    monkeypatch.setattr(pair, "_stamp", refuse)
    records = prepare(request(own.root, own.out))
    assert [one.status for one in records] == ["ok", "ok", "excluded", *["ok"] * 5]
    assert records[2].reasons == ("a file cannot be opened (Permission denied)",)
    assert "zztop" not in "".join(capsys.readouterr())
    monkeypatch.undo()
    assert [one.status for one in prepare(request(own.root, own.out))] == ["ok"] * 8


def test_a_folder_that_cannot_be_opened_is_not_called_empty(tmp_path, monkeypatch):
    from x2c.data.sources import listing

    def walk(top, onerror=None, **_):
        onerror(PermissionError(errno.EACCES, "Permission denied"))
        yield top, [], []

    monkeypatch.setattr(listing.os, "walk", walk)
    with pytest.raises(FileError, match="a folder in it cannot be opened \\(Permission denied\\)"):
        list(listing.files_under(tmp_path, strict=True))
    assert list(listing.files_under(tmp_path)) == []
    assert source


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_full(tmp_path):
    root, small = tmp_path / "root", tmp_path / "small"
    make_folder(root, 3)
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("cannot mount a small disk")
    asked = request(root, small / "out", recipe=SMALL.model_copy(update={"size": (16, 64, 64)}))
    try:
        with pytest.raises(UserError, match=r"No space left on device \(ENOSPC\)"):
            prepare(asked)
        assert not (small / "out/dataset.json").exists()
        subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
        prepare(asked)
        assert (small / "out/dataset.json").exists()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
