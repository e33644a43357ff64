"""Names of runs: folder, id, beginning of an id, variant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from x2c.core.errors import UserError
from x2c.core.run_lookup import find_run, matching


@pytest.fixture
def runs(tmp_path) -> Path:
    """Runs as (id, state, time of the last report)."""
    for name, state, updated in (
        ("l1-cpu-s0-0123456789ab", "done", 100.0),
        ("l1-cpu-s1-0123456789ab", "done", 300.0),
        ("l1-smoke-s0-aaaaaaaaaaaa", "done", 200.0),
        ("l1-cpu-s2-0123456789ab", "running", 400.0),
        ("l1_lpips-cpu-s0-0123456789ab", "failed", 500.0),
        ("baseline_mean-cpu-s0-ffffffffffff", "done", 600.0),
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "status.json").write_text(json.dumps({"state": state, "updated": updated}))
    (tmp_path / "runs" / "stages").mkdir()
    (tmp_path / "runs" / ".claims").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("l1-cpu-s0-0123456789ab", "l1-cpu-s0-0123456789ab"),
        ("l1-cpu-s0", "l1-cpu-s0-0123456789ab"),
        ("l1-sm", "l1-smoke-s0-aaaaaaaaaaaa"),
        ("l1_", "l1_lpips-cpu-s0-0123456789ab"),
        # The variant, not the beginning of nine ids; the newest that is done.
        ("l1", "l1-cpu-s1-0123456789ab"),
        ("baseline_mean", "baseline_mean-cpu-s0-ffffffffffff"),
    ],
)
def test_a_run_is_found_by_its_name(asked, found, runs, capsys):
    assert find_run(asked, runs) == runs / found
    said = capsys.readouterr().err
    # Whoever did not give the whole id is told which run it is.
    assert (found in said) == (asked != found)


def test_a_path_is_a_run_wherever_it_lies_and_whatever_its_name(runs, tmp_path, monkeypatch):
    moved = (runs / "l1-cpu-s0-0123456789ab").rename(tmp_path / "l1")
    assert find_run(str(moved), runs) == moved
    assert find_run(f"{moved}/", runs) == moved
    monkeypatch.chdir(tmp_path)
    assert find_run("l1", runs) == Path("l1")
    # A folder of that name which is no run does not hide the runs of the variant.
    (moved / "status.json").unlink()
    assert find_run("l1", runs) == runs / "l1-cpu-s1-0123456789ab"


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("l1-cpu", ["begins 3", "l1-cpu-s0-0123456789ab, l1-cpu-s1-0123456789ab, l1-cpu-s2-0123456789ab"]),
        ("l1_lpips", ["no run of variant l1_lpips is done", "l1_lpips-cpu-s0-0123456789ab (failed)"]),
        ("l1_lpisp", ["got 'l1_lpisp'", "did you mean 'l1_lpips'?", "choices: baseline_mean, l1, l1_lpips"]),
        ("stages", ["got 'stages'", "choices: "]),
        ("", ["got ''"]),
        ("elsewhere/l1-cpu-s0-0123456789ab", ["no folder elsewhere/l1-cpu-s0-0123456789ab"]),
    ],
)
def test_what_is_no_single_run_is_refused_with_the_candidates(asked, parts, runs):
    with pytest.raises(UserError) as caught:
        find_run(asked, runs)
    assert "\n" not in str(caught.value)
    for part in ("--run: ", *parts):
        assert part in str(caught.value)


def test_many_candidates_are_counted_and_not_all_named(tmp_path):
    for seed in range(30):
        (tmp_path / f"l1-cpu-s{seed}-0123456789ab").mkdir()
    with pytest.raises(UserError, match=r"begins 30: l1-cpu-s0-.* and 22 more; give more of it") as caught:
        find_run("l1-", tmp_path)
    assert len(str(caught.value)) < 400


def test_where_there_are_no_runs_it_says_so(tmp_path):
    with pytest.raises(UserError, match=r"absent has no runs"):
        find_run("l1", tmp_path / "absent")


def test_a_status_that_cannot_be_read_is_no_finished_run(runs):
    (runs / "l1-cpu-s1-0123456789ab" / "status.json").write_text("{")
    assert find_run("l1", runs) == runs / "l1-smoke-s0-aaaaaaaaaaaa"


def test_an_id_that_another_begins_with_is_itself():
    assert matching("a", ["a", "ab"]) == ["a"]
    assert matching("", ["a", "ab"]) == ["a", "ab"]
