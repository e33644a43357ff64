"""Digests: hashed once, and lists of them read strictly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from copies import fill, sha

from x2c.core import digests
from x2c.core.errors import UserError
from x2c.core.weights import local_copy

pytestmark = pytest.mark.usefixtures("offline")


def test_a_list_that_is_no_list_is_an_error_with_its_line(shelf):
    fill(shelf / "kl_f8")
    (shelf / "SHA256SUMS").write_text(f"{'0' * 64}  kl_f8/config.json\nnot a digest\n")
    with pytest.raises(UserError, match=r"SHA256SUMS:2: expected 64 hex digits.*'not a digest'"):
        local_copy("kl_f8")


def test_a_large_files_digest_is_remembered_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "REMEMBERED_BYTES", 4)
    hashed: list[Path] = []
    monkeypatch.setattr(digests, "file_digest", lambda path: hashed.append(path) or sha(path.read_bytes()))
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"large")
    small.write_bytes(b"abc")
    for _ in range(3):
        assert digests.sha256(large) == sha(b"large") and digests.sha256(small) == sha(b"abc")
    assert hashed.count(large) == 1 and hashed.count(small) == 3
    large.write_bytes(b"larger")
    assert digests.sha256(large) == sha(b"larger")
    os.utime(large, (1, 1))
    digests.sha256(large)
    digests.sha256(large, fresh=True)
    assert hashed.count(large) == 4


@pytest.mark.parametrize("memory", ["not json", "[]", '{"x": 1}'])
def test_a_spoilt_or_unwritable_memory_costs_time_only(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "REMEMBERED_BYTES", 0)
    file = tmp_path / "file"
    file.write_bytes(b"content")
    spoilt = tmp_path / "user-cache" / "x2c" / "digests.json"
    spoilt.parent.mkdir(parents=True)
    spoilt.write_text(memory)
    assert digests.sha256(file) == sha(b"content")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert digests.sha256(file) == sha(b"content")
