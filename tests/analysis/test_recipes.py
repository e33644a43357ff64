"""What sets a row apart from the reference row beyond its own file is named, and strangers keep out of a sweep's table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import tables, trace
from analysis.read.groups import find_groups
from analysis.read.recipes import chosen_runs, differences_in_recipe
from analysis.read.runs import group_runs, load_runs
from analysis.tabulate.quality import Table, collect
from analysis.tabulate.rows import Row

MakeRun = Callable[..., Path]
Config = dict[str, Any]


def table(runs_dir: Path) -> Table:
    return collect(group_runs(load_runs(runs_dir))[0])


def row(of: Table, variant: str) -> Row:
    return next(row for row in of.rows if row.variant == variant)


def note_of(of: Table, variant: str) -> str:
    """The footnote that the number at a row's name leads to."""
    marks = [mark for mark in row(of, variant).marks if mark.isdigit()]
    return " ".join(note.text for note in of.footnotes if note.mark in marks)


def made_with(run: Path, **entries: Any) -> Path:
    """The run with further entries of provenance.json."""
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | entries))
    return run


def test_another_recipe_is_named_at_its_row(make_run: MakeRun, base_config: Config) -> None:
    make_run("l1")
    make_run("l1_lpips")
    stages = base_config["stages"] | {"xray": base_config["stages"]["xray"] | {"learning_rate": 0.05}}
    odd = {"stages": stages, "training": {"batch_size": 8}}
    pretrained = {"pretraining": base_config["pretraining"] | {"train": 48}}
    make_run("l1_adv", config=pretrained)
    result = table(make_run("l1_cls", config=odd).parent)
    assert note_of(result, "l1_cls") == (
        "L1 + Classifier: the recipe differs from that of L1 in stages.xray.learning_rate 0.05 (not set), "
        "training.batch_size 8 (4)."
    )
    assert note_of(result, "l1_adv").endswith("that of L1 in pretraining.train 48 (24).")
    assert note_of(result, "l1_lpips") == note_of(result, "l1") == ""


def test_rows_that_differ_alike_share_a_note(make_run: MakeRun) -> None:
    make_run("l1")
    for variant in ("l1_lpips", "l1_adv"):
        runs = make_run(variant, config={"training": {"batch_size": 8}}).parent
    result = table(runs)
    assert note_of(result, "l1_lpips") == note_of(result, "l1_adv")
    assert note_of(result, "l1_adv").startswith("L1 + LPIPS, L1 + ADV: ")


def test_what_a_row_was_made_with_is_named(make_run: MakeRun) -> None:
    usual = {"device": "x86_64", "processor": "Xeon, AVX512", "threads": 1, "packages": {"torch": "2.14.1"},
             "x2c": "0.1.0", "commit": "abcdef0123456789", "dirty": False}  # fmt: skip
    made_with(make_run("l1"), **usual)
    made_with(make_run("l1_lpips"), **usual)
    made_with(make_run("baseline_reconstruction"), **usual | {"processor": "Epyc, AVX2"})
    other = {"device": "NVIDIA H100", "threads": 64, "packages": {"torch": "2.11.0"}, "dirty": True}
    result = table(made_with(make_run("l1_adv"), **usual | other).parent)
    assert note_of(result, "l1_adv") == (
        "L1 + ADV: made with device NVIDIA H100 (x86_64), threads 64 (1), torch 2.11.0 (2.14.1), "
        "commit abcdef012345 with local changes (abcdef012345) of L1."
    )
    assert note_of(result, "baseline_reconstruction").endswith("made with processor Epyc, AVX2 (Xeon, AVX512) of L1.")
    assert note_of(result, "l1_lpips") == ""


def test_what_the_variants_files_say_is_no_difference() -> None:
    """Runs as training writes them: nothing is named where each is as its file makes it."""
    from x2c.core.resolve import resolve

    def run_of(variant: str, *overrides: str) -> Any:
        from dataclasses import fields

        from analysis.read.runs import Run

        config = resolve(variant, "cpu", 0, overrides).model_dump(mode="json", exclude_none=True)
        known = {"variant": variant, "scale": "cpu", "seed": 0, "config": config, "state": "done"}
        return Run(**{field.name: known.get(field.name) for field in fields(Run)})

    reference = run_of("l1")
    for variant in ("l1_lpips", "cfg", "res_128", "vqgan_3d", "clip", "full", "pred_eps"):
        assert differences_in_recipe(run_of(variant), reference) == []
    assert differences_in_recipe(run_of("full", "data=atlas"), run_of("l1", "data=atlas")) == []
    # Another value than its own file's is one, in a field of that file as well.
    changed = run_of("l1_lpips", "loss.lpips.weight=0.05", "stages.xray.learning_rate=0.05")
    told = differences_in_recipe(changed, reference)
    assert "loss.lpips.weight 0.05 (not set)" in told and "stages.xray.learning_rate 0.05 (0.004)" in told
    assert "pretraining.train 200 (96)" in differences_in_recipe(run_of("cfg", "pretraining.train=200"), reference)


def test_a_stray_run_does_not_take_the_row_of_a_sweep(make_run: MakeRun) -> None:
    for variant in ("l1", "l1_lpips", "l1_adv"):
        runs = make_run(variant, config={"training": {"batch_size": 2}}).parent
    make_run("l1_adv", config={"training": {"batch_size": 8}}, psnr=99.0, updated=9000.0)
    (group,) = group_runs(load_runs(runs))
    assert {run.config["training"]["batch_size"] for run in chosen_runs(group)["l1_adv"]} == {2}


def test_a_sweeps_table_shows_its_own_cells(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("l1")
    make_run("l1_adv", psnr=77.0)
    make_run("baseline_mean")
    stranger = make_run("l1_lpips", config={"training": {"batch_size": 8}}, psnr=88.0, updated=9000.0)
    mine = make_run("l1_lpips", psnr=15.0)
    (group,) = find_groups(mine.parent, only=mine.name)
    assert {run.variant for run in group.runs} == {"l1", "l1_lpips", "baseline_mean"}
    assert stranger.name not in {run.id for run in group.runs}
    assert tables.main(["--runs", str(mine.parent), "--out", str(tmp_path), "--only", mine.name]) == 0
    text = (tmp_path / "table2.md").read_text()
    assert "15.00" in text and "88.00" not in text and "77.00" not in text
    capsys.readouterr()


def test_trace_says_first_what_differs(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("l1")
    runs = make_run("l1_lpips", config={"training": {"batch_size": 8}}).parent
    assert trace.main(["l1_lpips:psnr", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith(
        "differs from L1: L1 + LPIPS: the recipe differs from that of L1 in training.batch_size 8 (4)"
    )
    assert any(line.startswith("pretraining") for line in lines)


def test_a_sweep_of_another_seed_than_the_reference_rows_shows_its_cells(make_run: MakeRun) -> None:
    make_run("l1")
    mine = make_run("l1_lpips", seed=1, psnr=15.0)
    (group,) = find_groups(mine.parent, only=mine.name)
    rows = {r.variant: r for r in collect(group).rows}
    assert rows["l1_lpips"].cells["psnr"].mean == pytest.approx(15.0) and rows["l1"].state == "not run"


def test_a_sweeps_table_has_the_baselines_of_its_own_settings(make_run: MakeRun) -> None:
    small = {"resolution": {"size": "128x128x64", "reduction": 4}}
    mine = make_run("l1")
    make_run("baseline_mean")
    make_run("baseline_mean", config=small)
    (group,) = find_groups(mine.parent, only=mine.name)
    assert [run.config["resolution"]["size"] for run in group.runs if run.variant == "baseline_mean"] == ["256x256x64"]
