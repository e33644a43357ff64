"""Reading run directories: states, odd folders, grouping and the choice of recipe."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli import find_groups
from analysis.runs import group_runs, load_runs, steps_text, voxels, window_hu
from x2c.core.config import identity
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory

MakeRun = Callable[..., Path]


def test_a_finished_run_is_read(make_run: MakeRun) -> None:
    folder = make_run("l1", seed=3)
    (run,) = load_runs(folder.parent)
    assert (run.id, run.variant, run.scale, run.seed, run.dataset) == (folder.name, "l1", "cpu", 3, "phantom")
    assert (run.state, run.label, run.section, run.cohort) == ("done", "L1", "Loss", "f00dfeedbeef")
    assert run.scores is not None and list(run.scores["patient"])[:2] == ["p000", "p001"]
    assert run.set_scores is not None and run.set_scores["frechet"]["n"] == 6
    assert [s.instead_of for s in run.stand_ins] == ["BiomedCLIP", "AlexNet", "I3D"]


def test_running_is_interrupted_once_its_lock_is_free(make_run: MakeRun) -> None:
    folder = make_run("l1", state="running")
    with (folder / ".lock").open("w") as lock:
        # flock belongs to the open file, so a second open sees it as another process would.
        fcntl.flock(lock, fcntl.LOCK_EX)
        (run,) = load_runs(folder.parent)
        assert (run.state, run.progress, run.phase) == ("running", 0.45, "train xray")
        assert run.scores is None
    (run,) = load_runs(folder.parent)
    assert run.state == "interrupted"


def test_reading_leaves_the_lock_to_others(make_run: MakeRun) -> None:
    folder = make_run("l1", state="running")
    (folder / ".lock").touch()
    load_runs(folder.parent)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_scores_count_only_when_the_run_is_done(make_run: MakeRun) -> None:
    folder = make_run("l1")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "failed", "reason": "out of\nmemory"}))
    (run,) = load_runs(folder.parent)
    assert (run.state, run.reason, run.scores, run.set_scores) == ("failed", "out of memory", None, None)


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_done_without_readable_scores_is_failed(make_run: MakeRun, content: bytes | None) -> None:
    folder = make_run("l1")
    (folder / "scores.parquet").unlink()
    if content:
        (folder / "scores.parquet").write_bytes(content)
    (run,) = load_runs(folder.parent)
    assert run.state == "failed"
    assert run.reason is not None and run.reason.startswith("done, but its scores cannot be read")


def spoil(name: str, content: str | None) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).unlink() if content is None else (folder / name).write_text(content)

    return act


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (spoil("config.yaml", None), "no config.yaml"),
        (spoil("config.yaml", "variant: [l1"), "config.yaml cannot be read"),
        (spoil("config.yaml", "- l1"), "config.yaml is no mapping"),
        (spoil("config.yaml", "variant: l1"), "config.yaml lacks"),
        (spoil("config.yaml", "{variant: l1, scale: cpu, seed: 0, dataset: phantom}"), "config.yaml lacks"),
        (spoil("config.yaml", "{variant: l1, scale: cpu, seed: 0, dataset: {name: a}, stages: {order: []}}"), "lacks"),
        (spoil("status.json", None), "it has not begun"),
        (spoil("status.json", '{"state": "run'), "status.json cannot be read"),
        (spoil("status.json", '{"state": "fine"}'), "names no state"),
        (spoil("provenance.json", "{"), "provenance.json cannot be read"),
        (
            lambda folder: folder.rename(folder.with_name(folder.name + "-copy")),
            "not the run id l1-cpu-s0-<12 hex>",
        ),
    ],
)
def test_odd_folders_are_skipped_with_a_line_that_says_why(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture, act: Callable[[Path], None], why: str
) -> None:
    good, bad = make_run("l1_lpips"), make_run("l1")
    act(bad)
    for name in (".cache", "logs", "stages"):
        (good.parent / name).mkdir()
    (good.parent / "stages" / "ctpa-cpu-s0-0123456789ab").mkdir()
    (good.parent / "notes.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert [run.id for run in load_runs(good.parent)] == [good.name]
    (message,) = caplog.messages
    assert bad.name in message and why in message and "\n" not in message


def test_no_folder_gives_no_runs(tmp_path: Path) -> None:
    assert load_runs(tmp_path / "none") == []


def test_groups_keep_scales_and_data_apart_latest_first(make_run: MakeRun) -> None:
    make_run("l1", scale="smoke", updated=5)
    make_run("l1", updated=1)
    make_run("l1", updated=9, cohort="0123456789ab")
    young = make_run("l1_adv", state="running", updated=10)
    (young / "provenance.json").unlink()
    groups = group_runs(load_runs(young.parent))
    assert [(g.scale, g.cohort, sorted(r.variant for r in g.runs)) for g in groups] == [
        ("cpu", "0123456789ab", ["l1", "l1_adv"]),
        ("smoke", "f00dfeedbeef", ["l1"]),
        ("cpu", "f00dfeedbeef", ["l1"]),
    ]


def test_sizes_of_one_cohort_are_one_group(make_run: MakeRun) -> None:
    make_run("l1")
    runs = make_run("res_128", config={"resolution": {"size": "128x128x64", "reduction": 4}}).parent
    (group,) = group_runs(load_runs(runs))
    assert len({run.provenance["data"]["fingerprint"] for run in group.runs if run.provenance}) == 2


def test_a_run_that_has_only_begun_joins_no_other_patients(make_run: MakeRun, base_config: dict[str, Any]) -> None:
    make_run("l1")
    other = {"name": "phantom", "train": 8, "cohort": 2, "window": {"low_hu": -1200, "high_hu": 600}}
    on_other = base_config["stages"] | {"order": ["rspect", "lidc"], "lidc": {"data": "finetuning", "steps": 150}}
    young = [
        make_run("lidc_lora", state="running", config={"finetuning": other, "stages": on_other}),
        make_run("l1_adv", state="running", config={"dataset": {**base_config["dataset"], "window": other["window"]}}),
    ]
    for folder in young:
        (folder / "provenance.json").unlink()
    groups = group_runs(load_runs(young[0].parent))
    members = {group.cohort: sorted(run.variant for run in group.runs) for group in groups}
    assert members == {"f00dfeedbeef": ["l1", "l1_adv"], None: ["lidc_lora"]}


def test_runs_that_have_only_begun_are_a_group_of_their_own(make_run: MakeRun) -> None:
    folder = make_run("l1", state="running")
    (folder / "provenance.json").unlink()
    (group,) = group_runs(load_runs(folder.parent))
    assert (group.name, group.cohort) == ("scale cpu, data phantom", None)


def test_a_finished_recipe_is_chosen_before_a_later_unfinished_one(make_run: MakeRun) -> None:
    done = make_run("l1", updated=1, config={"training": {"batch_size": 1}})
    make_run("l1", state="running", updated=2, config={"training": {"batch_size": 2}})
    (group,) = group_runs(load_runs(done.parent))
    assert [run.id for run in group.chosen()["l1"]] == [done.name]
    shutil.rmtree(done)
    (group,) = group_runs(load_runs(done.parent))
    assert [run.state for run in group.chosen()["l1"]] == ["interrupted"]


def test_the_recipe_of_most_finished_seeds_is_chosen_then_the_latest(make_run: MakeRun) -> None:
    other = {"sampler": {"name": "ddpm", "steps": 5}}
    runs = make_run("l1", seed=0, updated=1000).parent
    make_run("l1", seed=0, updated=2000, config=other)

    def steps() -> list[tuple[int, bool]]:
        return [
            (run.seed, run.config["sampler"] == other["sampler"])
            for run in group_runs(load_runs(runs))[0].chosen()["l1"]
        ]

    assert steps() == [(0, True)]
    make_run("l1", seed=1, updated=1500)
    assert steps() == [(0, False), (1, False)]


def test_what_cannot_change_a_result_is_no_part_of_the_recipe(make_run: MakeRun) -> None:
    denoiser = {"dim": 16, "gradient_checkpointing": False}
    make_run("l1", seed=0, config={"compute": {"workers": 1}, "denoiser": denoiser})
    runs = make_run(
        "l1",
        seed=1,
        config={"compute": {"workers": 8}, "denoiser": denoiser | {"gradient_checkpointing": True}},
    ).parent
    (group,) = group_runs(load_runs(runs))
    assert [run.seed for run in group.chosen()["l1"]] == [0, 1]
    assert group.runs[0].config["denoiser"] == denoiser


def test_baselines_are_no_variants(make_run: MakeRun) -> None:
    make_run("baseline_mean")
    (group,) = group_runs(load_runs(make_run("l1").parent))
    assert list(group.chosen()) == ["l1"] and len(group.runs) == 2


@pytest.mark.parametrize("variant", ["l1", "full", "res_512", "lidc_lora"])
def test_a_config_is_read_as_training_reads_it(make_run: MakeRun, variant: str) -> None:
    config = resolve(variant, "cpu")
    folder = make_run(variant)
    RunDirectory(folder).write_config(config)
    (run,) = load_runs(folder.parent)
    window = config.evaluated.options.window
    assert run.dataset == config.evaluated.name
    assert window_hu(run.config) == (window.low_hu, window.high_hu)
    assert voxels(run.config) == config.resolution.shape
    stages = [part.split() for part in steps_text(run.config).split(" → ")]
    assert stages == [[name, str(stage.steps)] for name, stage in config.stages.each.items()]
    assert (window_hu(run.config) != (-100, 900)) == (variant == "lidc_lora")


def test_the_recipe_is_what_run_ids_are_made_of(make_run: MakeRun) -> None:
    config = resolve("lidc_lora", "smoke")
    folder = make_run("lidc_lora", scale="smoke")
    RunDirectory(folder).write_config(config)
    (run,) = load_runs(folder.parent)
    known = identity(config)
    assert known.pop("seed") == run.seed
    assert json.loads(run.recipe) == json.loads(json.dumps({k: v for k, v in known.items() if v is not None}))


def test_a_sweep_shows_its_own_runs_of_a_variant(make_run, tmp_path):
    mine = make_run("l1", updated=1000.0)
    make_run("l1", updated=2000.0, config={"training": {"batch_size": 1}})
    make_run("l1_adv", updated=1500.0)
    (group,) = find_groups(tmp_path / "runs", prefer=mine.name)
    assert [run.id for run in group.runs if run.variant == "l1"] == [mine.name]
    assert "l1_adv" in {run.variant for run in group.runs}
