"""What is in the folder of runs."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from x2c.core.errors import UserError
from x2c.runs.disk import age_text, size_text, usage


def test_the_table_has_every_run_and_whole_ids(command, trained):
    shown = command("list")
    assert trained.name in shown
    for name in ("baseline_mean", "baseline_nearest", "baseline_reconstruction"):
        assert name in shown
    assert "15/15" in shown, "the steps of its three stages"
    psnr = pd.read_parquet(trained / "scores.parquet")["psnr"]
    assert f"{psnr.mean():.2f} ± {psnr.std():.2f}" in shown


def test_the_same_as_json(command, trained):
    (row,) = json.loads(command("list", "--json", "--variant", "l1"))
    psnr = pd.read_parquet(trained / "scores.parquet")["psnr"]
    expected = {"id": trained.name, "variant": "l1", "scale": "smoke", "data": "phantom", "seed": 0, "state": "done"}
    assert expected.items() <= row.items()
    assert (row["psnr_mean"], row["patients"], row["whole"]) == (psnr.mean(), 4, True)
    assert row["bytes"] == sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--state", "done"], 4),
        (["--scale", "smoke", "--data", "phantom"], 4),
        (["--variant", "baseline_mean"], 1),
    ],
)
def test_filters(words, count, command):
    assert len(json.loads(command("list", "--json", *words))) == count


def test_no_run_in_a_state_is_said_by_the_exit_code(command):
    assert "0 runs" in command("list", "--state", "failed", code=1)


def test_a_filter_that_fits_no_run_names_the_choices(command):
    with pytest.raises(
        UserError, match=r"--variant: expected a variant that has runs; got 'l2'; did you mean 'l1'\? choices: "
    ):
        command("list", "--variant", "l2")
    with pytest.raises(UserError, match=r"--scale: expected .* got 'gpu'; .*choices: smoke"):
        command("list", "--scale", "gpu")


def test_a_broken_run_is_a_row_that_says_why(command, runs, trained):
    (runs / trained.name / "status.json").write_text("{")
    (row,) = json.loads(command("list", "--json", "--state", "unreadable"))
    assert row["id"] == trained.name and "status.json" in row["reason"]
    (runs / "no-run").mkdir()
    assert "no-run" not in command("list")


def test_a_run_in_full(command, trained):
    shown = command("show", "l1")
    for part in (
        "no difference",
        "clip_standin instead of",
        "kl_standin, in autoencoder",
        "psnr",
        "denoiser.safetensors",
        "deleting the run frees",
    ):
        assert part in shown, part
    assert re.search(r"stage +rspect [0-9a-f]{12}", shown)


def test_what_differs_from_the_variant_is_shown(command, runs, trained):
    path = runs / trained.name / "config.yaml"
    path.write_text(path.read_text().replace("steps: 8", "steps: 9"))
    assert re.search(r"stages\.xray\.steps +9 \(the variant's: 8\)", command("show", trained.name))


def test_sizes_count_a_file_once_and_free_what_has_no_other_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(100))
    (tmp_path / "a" / "two").hardlink_to(tmp_path / "a" / "one")
    (tmp_path / "a" / "shared").write_bytes(bytes(50))
    (tmp_path / "shared").hardlink_to(tmp_path / "a" / "shared")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "shared")
    found = usage([tmp_path / "a"])
    assert (found.held, found.freed) == (150, 100)


def test_sizes_and_ages_in_words():
    assert [size_text(count) for count in (0, 999, 1500, 25e6, 7.2e9)] == ["0 B", "999 B", "1.5 kB", "25 MB", "7.2 GB"]
    import time

    assert age_text(time.time() - 7300) == "2 h"
