"""Deleting runs and what nothing needs any more."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from x2c.core.errors import UserError
from x2c.core.file_lease import FileLease, newest
from x2c.core.files import locked
from x2c.core.machine import machine
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory
from x2c.sweep.plan.cells import cells, read_sweep
from x2c.sweep.queue.trials import trial_of


def stage_names(runs: Path) -> set[str]:
    return {path.name for path in (runs / "stages").glob("[!.]*")}


def unused(command, *words: str) -> set[str]:
    rows = json.loads(command("stages", "--json", *words))
    return {Path(row["path"]).name for row in rows if row["unused"]}


def test_a_run_is_deleted_and_what_was_its_own_alone_is_told(command, runs, trained, tmp_path):
    cache = f"--cache={tmp_path / 'no-cache'}"
    assert unused(command, cache) == set()
    told = command("remove", trained.name[:12], "--yes")
    assert f"deleted {trained.name}" in told
    assert not (runs / trained.name).exists()
    assert not list(runs.glob(".*.tmp"))
    stages = stage_names(runs)
    assert len(stages) == 3
    for name in stages:
        assert name in told
    assert unused(command, cache) == stages
    # Nothing goes by a dry run.
    assert "unused: 3" in command("stages", "--remove", cache)
    assert stage_names(runs) == stages
    command("stages", "--remove", "--yes", cache)
    assert stage_names(runs) == set()


def test_a_stage_that_another_run_went_through_is_kept(command, runs, trained, tmp_path):
    other = runs / "cfg-smoke-s0-0123456789ab"
    other.mkdir()
    config = resolve("cfg", "smoke", 0, [f"compute.runs={runs}"])
    RunDirectory(other).write_config(config)
    told = command("remove", trained.name, "--yes")
    shared = {name for name in stage_names(runs) if name.startswith(("rspect", "ctpa"))}
    assert len(shared) == 2
    assert all(name not in told for name in shared)
    assert {name.partition("-")[0] for name in unused(command, f"--cache={tmp_path / 'none'}")} == {"xray"}


def test_what_a_planned_cell_needs_is_kept(command, runs, trained, tmp_path):
    import optuna

    sweep = read_sweep("losses")
    (cell,) = [c for c in cells(sweep, "smoke", (0,), [f"compute.runs={runs}"]) if c.config.variant == "l1"]
    study = optuna.create_study(study_name="losses", storage=f"sqlite:///{runs / 'sweeps.db'}")
    study.add_trial(trial_of(cell, sweep))
    command("remove", trained.name, "--yes")
    assert unused(command, f"--cache={tmp_path / 'none'}") == set()
    rows = json.loads(command("stages", "--json", f"--cache={tmp_path / 'none'}"))
    assert {tuple(row["used_by"]) for row in rows} == {(f"{trained.name} (planned)",)}


def test_where_needs_cannot_be_told_nothing_of_that_scale_and_seed_is_unused(command, runs, trained, tmp_path):
    command("remove", trained.name, "--yes")
    stranger = runs / "odd-smoke-s0-0123456789ab"
    stranger.mkdir()
    (stranger / "config.yaml").write_text("variant: odd\n")
    cache = f"--cache={tmp_path / 'none'}"
    assert unused(command, cache) == set()
    assert "the stages that odd-smoke-s0-0123456789ab needs cannot be determined" in command("stages", cache)
    stranger.rename(runs / "odd-smoke-s1-0123456789ab")
    assert unused(command, cache) == stage_names(runs)


def test_a_stage_that_is_being_trained_is_kept(command, runs, trained, tmp_path):
    command("remove", trained.name, "--yes")
    first = sorted(stage_names(runs))[0]
    with RunDirectory(runs / "stages" / first).owned():
        assert first not in unused(command, f"--cache={tmp_path / 'none'}")


def test_caches_that_no_run_needs_are_found(command, runs, trained, smoke_cache, tmp_path):
    import shutil

    cache = Path(shutil.copytree(smoke_cache, tmp_path / "cache", symlinks=True))
    stale = cache / "latents" / "0123456789ab"
    stale.mkdir()
    (stale / "array.npy").write_bytes(bytes(1000))
    rows = {Path(row["path"]): row for row in json.loads(command("stages", "--json", f"--cache={cache}"))}
    assert rows[stale]["unused"] and rows[stale]["freed"] == 1000
    of_run = [path for path, row in rows.items() if trained.name in row["used_by"] and path.is_relative_to(cache)]
    assert {path.parent.name for path in of_run} >= {"autoencoders", "datasets", "embeddings", "encoders", "latents"}
    command("stages", "--remove", "--yes", f"--cache={cache}")
    assert not stale.exists()
    assert all(path.exists() for path in of_run)
    # The baselines that were scored beside it hold nothing.
    command("remove", trained.name, "--yes")
    assert {path.name for path in of_run} <= unused(command, f"--cache={cache}")


def test_a_run_at_work_is_not_deleted(command, runs, trained):
    for at_work in (RunDirectory(runs / trained.name).owned(), locked(runs / ".claims" / trained.name)):
        with (
            at_work,
            pytest.raises(UserError, match=rf"{trained.name} \(.*\): expected runs that no process works"),
        ):
            command("remove", trained.name, "--yes")
    assert (runs / trained.name / "scores.parquet").exists()


def test_a_run_of_another_machine_that_was_just_heard_of_is_not_deleted(command, runs, trained):
    lease = RunDirectory(runs / trained.name).lease
    with FileLease(lease, "run").held():
        text = newest(lease).text.replace(machine(), "another-boot-id")
    number = newest(lease).number
    (lease / str(number)).write_text(text)
    with pytest.raises(UserError, match="a process has its lease"):
        command("remove", trained.name, "--yes")
    long_ago = time.time() - 86400
    os.utime(lease / str(number), (long_ago, long_ago))
    (runs / ".claims").mkdir(exist_ok=True)
    (runs / ".claims" / trained.name).write_text(json.dumps({"worker": "another-boot-id:17"}))
    with pytest.raises(UserError, match="a worker on another machine has claimed it"):
        command("remove", trained.name, "--yes")


def test_links_are_not_followed(command, runs, trained, tmp_path):
    outside = (runs / trained.name).rename(tmp_path / "elsewhere")
    (runs / trained.name).symlink_to(outside)
    assert "only the link" in command("remove", trained.name, "--yes")
    assert not (runs / trained.name).exists()
    assert (outside / "scores.parquet").exists()
    inside = runs / "l1-smoke-s7-0123456789ab"
    inside.mkdir()
    (inside / "away").symlink_to(outside)
    command("remove", inside.name, "--yes")
    assert (outside / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("baseline", "'baseline' begins 3"),
        ("l2", "expected a run of"),
        ("stages", "expected a run of"),
        ("../runs", "expected a run of"),
        ("..", "expected a run of"),
        ("", "expected a run of"),
    ],
)
def test_only_single_runs_of_the_folder_are_deleted(asked, part, command, runs):
    before = sorted(runs.rglob("*"))
    with pytest.raises(UserError, match=r"^ID: ") as caught:
        command("remove", asked, "--yes")
    assert part in str(caught.value)
    assert sorted(runs.rglob("*")) == before


def test_one_wrong_name_among_several_deletes_nothing(command, runs, trained):
    with pytest.raises(UserError):
        command("remove", trained.name, "nothing", "--yes")
    assert (runs / trained.name).exists()


def test_without_yes_it_asks(command, runs, trained, monkeypatch):
    with pytest.raises(UserError, match="give --yes"):
        command("remove", trained.name)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert "nothing was deleted" in command("remove", trained.name, code=1)
    assert (runs / trained.name).exists()
    monkeypatch.setattr("builtins.input", lambda _: "y")
    command("remove", trained.name)
    assert not (runs / trained.name).exists()
