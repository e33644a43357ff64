"""`python -m x2c.weights`: the table, verifying, and trust on first use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from copies import CONTENT, KL, VAE, fill, sha

from x2c.core import digests
from x2c.core.errors import UserError
from x2c.core.weights import WEIGHTS, local_copy, standing

pytestmark = pytest.mark.usefixtures("offline")


def test_own_weights_in_the_folder_are_trusted_once_they_are_recorded(shelf, published, command):
    folder = fill(shelf / "kl_f8", diffusion_pytorch_model=b"our own")
    (shelf / "i3d.pt").write_bytes(b"an archive")
    (shelf / "SHA256SUMS").write_text(f"# ours\n{'A' * 64} *./elsewhere/file\n")
    code, out, _ = command("--record")
    assert code == 0 and "kl_f8: 2 of 2 digests are new; these are not the published ones" in out
    lines = (shelf / "SHA256SUMS").read_text().splitlines()
    assert f"{sha(b'our own')}  kl_f8/{VAE}" in lines and f"{sha(b'an archive')}  i3d.pt" in lines
    assert f"{'a' * 64}  elsewhere/file" in lines
    assert local_copy("kl_f8", KL) == folder and local_copy("i3d") == shelf / "i3d.pt"
    assert standing(WEIGHTS["kl_f8"], folder) == "recorded"
    (folder / VAE).write_bytes(b"changed")
    for option in (KL, str(folder)):
        with pytest.raises(UserError, match=rf"{VAE}: expected SHA-256 {sha(b'our own')} \(SHA256SUMS.*got"):
            local_copy("kl_f8", option)
    command("--record")
    assert local_copy("kl_f8", KL) == folder


def test_recording_forgets_what_is_gone_and_needs_a_folder(shelf, monkeypatch, command):
    (fill(shelf / "kl_f8") / "old.bin").touch()
    command("--record")
    (shelf / "kl_f8" / "old.bin").unlink()
    command("--record")
    assert "old.bin" not in (shelf / "SHA256SUMS").read_text()
    monkeypatch.delenv("X2C_WEIGHTS")
    with pytest.raises(UserError, match=r"^--record: .*X2C_WEIGHTS"):
        command("--record")


def test_the_table_says_where_everything_is_and_how_to_provide_the_rest(shelf, command):
    fill(shelf / "kl_f8")
    code, out, err = command()
    assert code == 0 and err == ""
    assert str(shelf / "kl_f8") in out
    for name, weights in WEIGHTS.items():
        assert name in out and weights.licence in out
        assert all(digest[:12] in out for digest in weights.sha256.values())
        if name != "kl_f8":
            assert f"--{weights.option}={weights.kind}" in out and f"X2C_WEIGHTS/{weights.place}" in out


def test_verifying_hashes_afresh_and_fails_where_a_file_differs(shelf, published, command, monkeypatch):
    monkeypatch.setattr(digests, "REMEMBERED_BYTES", 0)
    file = fill(shelf / "kl_f8") / VAE
    (shelf / "torchxrayvision.pt").write_bytes(b"exported")
    code, out, err = command("--verify")
    assert code == 0 and err == "" and "as published" in out and "nothing to compare with" in out
    times = file.stat()
    file.write_bytes(bytes(reversed(CONTENT[VAE])))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    code, out, err = command("--verify")
    assert code == 1 and "DIFFERS" in out
    assert err.count("\n") == 1 and err.startswith(f"{file}: expected {sha(CONTENT[VAE])} (published); got ")
    command("--record")
    code, out, _ = command("--verify")
    assert code == 0 and "as in SHA256SUMS" in out
    file.unlink()
    file.with_name("config.json").unlink()
    file.parent.rmdir()
    code, _, err = command("--verify")
    assert code == 1 and err.count("no such file") == 2


def test_help_teaches_and_imports_no_torch():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['weights', '--help']\n"
        "try: runpy.run_module('x2c.weights', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import x2c.core.weights\n"
        "assert not {'torch', 'huggingface_hub', 'rich'} & set(sys.modules), 'heavy'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for word in ("X2C_WEIGHTS", "--record", "--verify", "HF_HUB_OFFLINE", "SHA256SUMS"):
        assert word in run.stdout
