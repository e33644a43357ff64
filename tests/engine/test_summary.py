"""What `train.py` prints of a finished run."""

from __future__ import annotations

import pandas as pd
import pytest

from x2c.core.run import RunDirectory
from x2c.engine.summary import ROWS, print_scores


@pytest.fixture
def run(tmp_path):
    scores = {
        "patient": ["a", "b"],
        **{name: [1.0, 3.0] for column in ROWS for name in (column, f"{column}_other_xray")},
    }
    directory = RunDirectory(tmp_path / "l1")
    directory.path.mkdir()
    pd.DataFrame(scores).to_parquet(directory.scores)
    return directory


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([], ["LPIPS", "feature distance"]),
        (["encoder"], ["LPIPS", "feature distance"]),
        (["perceptual"], ["LPIPS [stand-in]", "feature distance"]),
        (["perceptual", "features"], ["LPIPS [stand-in]", "feature distance [stand-in]"]),
    ],
)
def test_a_stand_ins_number_does_not_bear_the_real_name(run, parts, named, capsys):
    stand_ins = [{"part": part, "name": f"small_{part}", "instead_of": "the real one"} for part in parts]
    run.write("provenance.json", {"stand_ins": stand_ins})
    print_scores(run)
    out = capsys.readouterr().out
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert rows == ["PSNR (dB)", "SSIM (2D)", "MAE (HU)", *named]
    assert all(f"small_{part} ({part})" in out for part in parts) and ("stand-ins:" in out) == bool(parts)
