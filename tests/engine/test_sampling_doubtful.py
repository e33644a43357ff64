"""X-rays that are doubtful: warned of on screen and in the JSON file, or refused before anything is sampled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sampling_files import code_of, contents, typed

from x2c.core.errors import UserError
from x2c.data import frontal
from x2c.data.phantom import make_radiograph, make_subject
from x2c.data.phantom.parameters import radiograph_pose
from x2c.engine import sampling, xrays
from x2c.engine.sampling import sample_xrays


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    """A frontal radiograph [96, 96]."""
    return make_radiograph(make_subject("p0", 0), radiograph_pose("p0", 0), 96)


def write(path: Path, grey: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(path)
    return path


def remarks_in(path: Path) -> list[str]:
    return json.loads(path.read_text())["xray_remarks"]


def test_a_good_xray_has_no_remark(chest, request_of, tmp_path, capsys):
    request = request_of(xray=write(tmp_path / "good.png", chest), strict=True)
    sample_xrays(request)
    assert remarks_in(request.out.with_name("volume.json")) == []
    assert "warning" not in capsys.readouterr().err


def test_doubtful_xrays_are_sampled_with_a_warning_by_their_number(chest, request_of, tmp_path, capsys):
    folder = tmp_path / "xrays"
    write(folder / "Adams.png", 1 - chest)
    write(folder / "Baker.png", np.pad(chest, 30, constant_values=1))
    write(folder / "Clark.png", chest[::-1])
    request = request_of(xray=folder, out=tmp_path / "out", samples=2)
    assert len(sample_xrays(request)) == 6
    told = capsys.readouterr().err
    assert "warning: xray_0001: looks inverted" in told
    assert "warning: xray_0003: looks upside down" in told
    assert "xray_0002" not in told, "a note is no doubt"
    for name in ("xray_0001_1", "xray_0001_2", "xray_0001_mean"):
        (remark,) = remarks_in(request.out / f"{name}.json")
        assert remark.startswith("warning: looks inverted")
    (note,) = remarks_in(request.out / "xray_0002_1.json")
    assert note.startswith("note: margins")
    written = " ".join(path.read_text() for path in request.out.glob("*.json"))
    for secret in ("Adams", "Baker", "Clark"):
        assert secret not in told
        assert secret not in written


def test_strict_refuses_before_anything_is_sampled_and_names_all(chest, request_of, tmp_path, monkeypatch):
    folder = tmp_path / "xrays"
    for name, grey in {"Adams": 1 - chest, "Baker": chest, "Clark": chest[::-1]}.items():
        write(folder / f"{name}.png", grey)
    monkeypatch.setattr(sampling, "_sample", lambda *_: pytest.fail("sampled"))
    request = request_of(xray=folder, out=tmp_path / "out", strict=True)
    with pytest.raises(UserError) as caught:
        sample_xrays(request)
    told = str(caught.value)
    for part in ("--strict", "2 doubtful of 3", "xray_0001 (looks inverted", "xray_0003 (looks upside down"):
        assert part in told
    assert "xray_0002" not in told
    assert "Adams" not in told
    assert contents(request.out) == {}


def test_every_xray_is_read_and_judged_once(chest, request_of, tmp_path, monkeypatch):
    seen = {"read": 0, "judged": 0}

    def counted(kind, function):
        def call(*arguments):
            seen[kind] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(xrays, "read_xray", counted("read", xrays.read_xray))
    monkeypatch.setattr(xrays, "xray_remarks", counted("judged", frontal.xray_remarks))
    write(tmp_path / "xrays" / "a.png", chest)
    write(tmp_path / "xrays" / "b.png", chest * 0.9)
    sample_xrays(request_of(xray=tmp_path / "xrays", out=tmp_path / "out", samples=2))
    assert seen == {"read": 2, "judged": 2}


def test_strict_as_typed(run, request_of, chest, tmp_path, capsys):
    request = request_of(xray=write(tmp_path / "Smith.png", 1 - chest))
    line = ["--run", run, "--xray", request.xray, "--out", request.out, "--sampler.steps=2"]
    assert code_of(*line, "--strict") == 2
    refused = capsys.readouterr().err
    assert len(refused.strip().splitlines()) == 1
    assert "--xray (looks inverted" in refused
    assert code_of(*line) == 0
    assert "warning: --xray: looks inverted" in capsys.readouterr().err


def test_help_tells_of_doubtful_xrays():
    shown = typed("--help").stdout
    for word in ("--strict", "doubtful X-rays", "xray_remarks"):
        assert word in shown
