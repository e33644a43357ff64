"""Who keeps whom out of a shared folder, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from x2c.core import shared
from x2c.core.errors import exit_on_user_error, reason_of
from x2c.core.shared import denial, kept_out


@pytest.fixture
def not_ours(monkeypatch):
    """What is named belongs to `daemon`, and cannot be used from here."""
    kept = set[str]()
    monkeypatch.setattr(shared.os, "access", lambda path, mode: str(path) not in kept)
    monkeypatch.setattr(shared, "_name", lambda uid: "alice" if uid == 1 else "bob")

    def keep(path):
        os.chown(path, 1, -1)
        kept.add(str(path))
        return path

    return keep


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@needs_root
def test_a_file_of_another_user_is_named_with_what_to_set(tmp_path, not_ours):
    assert kept_out(tmp_path, "sweeps.db") == ""
    file = tmp_path / "sweeps.db"
    file.touch(mode=0o644)
    not_ours(file)
    told = kept_out(tmp_path, "logs", "sweeps.db")
    assert told.startswith(f"{file}: expected a file that bob may read and write; got one of alice with mode 0644")
    assert f"let alice run `chmod -R g+ws {tmp_path}`" in told and "`umask 002`" in told and "\n" not in told
    assert denial(PermissionError(13, "Permission denied", str(file))) == told


@needs_root
def test_of_a_file_that_cannot_be_made_the_folder_is_named(tmp_path, not_ours):
    not_ours(tmp_path)
    for error in (
        PermissionError(13, "Permission denied", str(tmp_path / "stages/rspect/.lease")),
        PermissionError(13, "Permission denied", str(tmp_path / ".a.tmp"), None, str(tmp_path / "a")),
    ):
        assert denial(error).startswith(f"{tmp_path}: expected a folder that bob may read and write; got one of alice")
        assert reason_of(error) == f"PermissionError: {denial(error)}"


def test_one_s_own_file_is_no_one_else_s_fault(tmp_path, monkeypatch):
    file = tmp_path / "metrics.jsonl"
    file.touch(mode=0o444)
    monkeypatch.setattr(shared.os, "access", lambda path, mode: str(path) != str(file))
    assert f"with mode 0444; run `chmod -R u+rwX {tmp_path}`" in denial(PermissionError(13, "", str(file)))


def test_what_has_no_name_is_told_as_it_is():
    assert denial(PermissionError(1, "Operation not permitted")) == (
        "expected to be allowed; got [Errno 1] Operation not permitted"
    )


def test_it_ends_a_program_in_a_line_and_code_2(tmp_path, capsys):
    def main():
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}: ") and said.count("\n") == 1


@needs_root
def test_a_real_user_is_told_of_a_real_folder(tmp_path):
    code = "import os; from x2c.core.shared import kept_out; from pathlib import Path; import sys\n"
    code += "os.setgroups([]); os.setgid(65534); os.setuid(65534); print(kept_out(Path(sys.argv[1])))"
    folder = "/usr/lib"
    said = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True).stdout
    assert "/usr/lib: expected a folder that nobody may read and write; got one of root with mode 0755" in said
