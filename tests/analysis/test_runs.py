"""Reading run directories: states, odd folders, grouping and the choice of recipe."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import yaml
from conftest import CONFIG

from analysis.read import files
from analysis.read.groups import find_groups
from analysis.read.recipes import chosen_runs
from analysis.read.runs import Group, Run, group_runs, load_runs, steps_text, voxels, window_hu
from x2c.core.config import Config
from x2c.core.files import digest
from x2c.core.identity import identity
from x2c.core.resolve import resolve
from x2c.core.run import RunDirectory, run_id, run_identity

MakeRun = Callable[..., Path]


def test_a_finished_run_is_read(make_run: MakeRun) -> None:
    folder = make_run("l1", seed=3)
    (run,) = load_runs(folder.parent)
    assert (run.id, run.variant, run.scale, run.seed, run.dataset) == (folder.name, "l1", "cpu", 3, "phantom")
    assert (run.state, run.label, run.section, run.cohort) == ("done", "L1", "Loss", "f00dfeedbeef")
    assert run.scores is not None and list(run.scores["patient"])[:2] == ["p000", "p001"]
    assert run.set_scores is not None and run.set_scores["frechet"]["n"] == 6
    assert [s.instead_of for s in run.stand_ins] == ["BiomedCLIP", "AlexNet", "I3D"]


def test_running_is_interrupted_once_no_process_has_it(make_run: MakeRun) -> None:
    folder = make_run("l1", state="running")
    with RunDirectory(folder).owned():
        (run,) = load_runs(folder.parent)
        assert (run.state, run.progress, run.phase) == ("running", 0.45, "train xray")
        assert run.scores is None
    (run,) = load_runs(folder.parent)
    assert run.state == "interrupted"


def test_reading_leaves_the_run_as_it_is(make_run: MakeRun) -> None:
    folder = make_run("l1", state="running")
    load_runs(folder.parent)
    assert not (folder / ".lease").exists()
    with RunDirectory(folder).owned():
        load_runs(folder.parent)
        assert [path.name for path in (folder / ".lease").iterdir()] == ["1"]


def test_scores_count_only_when_the_run_is_done(make_run: MakeRun) -> None:
    folder = make_run("l1")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "failed", "reason": "out of\nmemory"}))
    (run,) = load_runs(folder.parent)
    assert (run.state, run.reason, run.scores, run.set_scores) == ("failed", "out of memory", None, None)


def changed(file: str, **fields: Any) -> Callable[[Path], None]:
    """Set fields of a JSON or YAML file, `__` between the parts of their paths; None drops one."""

    def act(folder: Path) -> None:
        path = folder / file
        content = yaml.safe_load(path.read_text())
        for name, value in fields.items():
            *parents, key = name.split("__")
            inner = content
            for parent in parents:
                inner = inner[parent]
            if value is None:
                inner.pop(key)
            else:
                inner[key] = value
        path.write_text((yaml.safe_dump if file.endswith(".yaml") else json.dumps)(content))

    return act


def holding(file: str, content: str | bytes | None) -> Callable[[Path], None]:
    """Replace a file's content; None removes it."""

    def act(folder: Path) -> None:
        path = folder / file
        path.unlink()
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return act


def appended(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: holding(file, (folder / file).read_text() + text)(folder)


def rescored(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: change(pd.read_parquet(folder / "scores.parquet")).to_parquet(folder / "scores.parquet")


def as_folder(file: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return act


def turned(folder: Path) -> None:
    """Turn a bit of a score on the disk; two in a row are in a page, one alone in the statistics as well."""
    path = folder / "scores.parquet"
    scores = pd.read_parquet(path)
    scores.to_parquet(path, compression=None, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<2d", *scores["mae_hu"][:2]))] ^= 1
    path.write_bytes(content)


DEEP = '{"a": ' * 5000 + "1" + "}" * 5000
CHANGED = "provenance.json: id_made_from does not give the id of this folder; it was changed after the run began"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (holding("config.yaml", None), "config.yaml: absent"),
        (as_folder("config.yaml"), "config.yaml: expected a file; got something else"),
        (holding("config.yaml", ""), "config.yaml: expected a mapping; got nothing"),
        (holding("config.yaml", "- l1"), "config.yaml: expected a mapping; got a list"),
        (holding("config.yaml", "variant: [l1"), "config.yaml: expected YAML; got something else (while parsing"),
        (holding("config.yaml", b"a: \xff"), "config.yaml: expected YAML; got something else ("),
        (holding("config.yaml", DEEP), "config.yaml: is nested more than 32 levels deep"),
        (
            appended("config.yaml", "odd: &odd {inner: *odd}\n"),
            "config.yaml: expected plain options; got some that hold themselves",
        ),
        (holding("config.yaml", "{1: a}"), "config.yaml: expected names of options as keys; got 1"),
        (changed("config.yaml", seed="0"), 'config.yaml: seed: expected an integer; got "0"'),
        (changed("config.yaml", seed=10**400), "config.yaml: expected numbers of at most 64 bits; got a larger one"),
        (changed("config.yaml", variant="l2"), "config.yaml: it is of a run l2-cpu-s0-<12 hex>, which is not the"),
        (
            changed("config.yaml", resolution__size="256x256"),
            "config.yaml: resolution.size: expected HEIGHTxWIDTHxDEPTH",
        ),
        (changed("config.yaml", resolution__reduction=3), "config.yaml: resolution: expected a reduction that divides"),
        (changed("config.yaml", resolution__reduction=0), "config.yaml: resolution.reduction: expected greater than 0"),
        (changed("config.yaml", dataset__window__low_hu=900.0), "config.yaml: dataset.window: expected low_hu below"),
        (
            changed("config.yaml", dataset__window__low_hu=float("nan")),
            "config.yaml: dataset.window.low_hu: expected a",
        ),
        (changed("config.yaml", stages__order=[]), "config.yaml: stages.order: expected a list that is not empty"),
        (changed("config.yaml", stages__order=["xray", "xray"]), "config.yaml: stages: expected each stage once"),
        (changed("config.yaml", stages__order=["lidc"]), "config.yaml: stages.lidc: expected a mapping; got nothing"),
        (changed("config.yaml", stages__xray__data="finetuning"), "config.yaml: stages.xray.data: expected a data set"),
        (
            changed("config.yaml", stages__xray__steps="many"),
            'config.yaml: stages.xray.steps: expected an integer; got "',
        ),
        (changed("config.yaml", guidance__scale="high"), 'config.yaml: guidance.scale: expected a number; got "high"'),
        (changed("config.yaml", sampler=["dpm++"]), "config.yaml: sampler: expected a mapping; got a list"),
        (changed("config.yaml", prediction__name=None), "config.yaml: prediction.name: expected a value; got none"),
        (changed("config.yaml", loss={"adv": 5}), "config.yaml: loss.adv: expected a mapping; got 5"),
        (
            changed("config.yaml", loss={"adv": {"weight": True}}),
            "config.yaml: loss.adv.weight: expected a number; got true",
        ),
        (changed("config.yaml", training=4), "config.yaml: training: expected a mapping; got 4"),
        (changed("config.yaml", autoencoder="kl"), 'config.yaml: autoencoder: expected a mapping; got "kl"'),
        (changed("config.yaml", table2=["L1"]), "config.yaml: table2: expected a mapping; got a list"),
        (changed("config.yaml", table2__label=3), "config.yaml: table2.label: expected text; got 3"),
        (
            changed("config.yaml", table2__note="long" * 200),
            "config.yaml: table2.note: expected text of fewer characters",
        ),
        (
            changed("config.yaml", training__batch_size=5),
            "config.yaml: training.batch_size is 5, where the run's id was made with 4",
        ),
        (
            changed("config.yaml", latents={"scaling": "standard"}),
            'config.yaml: latents.scaling is "standard", where the run\'s id was made without it',
        ),
        (changed("config.yaml", sampler__steps=500), "config.yaml: sampler.steps is 500, where the run's id was made"),
        (
            changed("config.yaml", pretraining=None),
            "config.yaml: stages.rspect.data: expected a data set that the config",
        ),
        (holding("status.json", '{"state": "run'), "status.json: expected JSON; got something else (Unterminated"),
        (holding("status.json", '["done"]'), "status.json: expected a mapping; got a list"),
        (holding("status.json", None), "status.json: absent, though the run was scored"),
        (
            changed("status.json", state="fine"),
            "status.json: state: expected 'running', 'done', 'failed', 'pruned' or 'interrupted'; got \"",
        ),
        (changed("status.json", updated="today"), 'status.json: updated: expected a number; got "today"'),
        (changed("status.json", updated=float("nan")), "status.json: updated: expected a finite number; got nan"),
        (changed("status.json", updated=1e18), "status.json: updated: expected less than or equal to"),
        (changed("status.json", step=-1), "status.json: step: expected greater than or equal to 0; got -1"),
        (changed("status.json", starts=1.5), "status.json: starts: expected an integer; got 1.5"),
        (changed("status.json", reason=["oom"]), "status.json: reason: expected text; got a list"),
        (changed("status.json", phase=7), "status.json: phase: expected text; got 7"),
        (holding("provenance.json", None), "provenance.json: absent"),
        (
            holding("provenance.json", "{"),
            "provenance.json: expected JSON; got something else (Expecting property name",
        ),
        (holding("provenance.json", DEEP), "provenance.json: is nested more than 32 levels deep"),
        (changed("provenance.json", data="phantom"), 'provenance.json: data: expected a mapping; got "phantom"'),
        (changed("provenance.json", data__cohort=7), "provenance.json: data.cohort: expected text; got 7"),
        (
            changed("provenance.json", data__window_hu=[-100.0]),
            "provenance.json: data.window_hu: expected two numbers in",
        ),
        (
            changed("provenance.json", data__window_hu=[9, -1]),
            "provenance.json: data.window_hu: expected two numbers in",
        ),
        (changed("provenance.json", metrics="4"), 'provenance.json: metrics: expected an integer; got "4"'),
        (changed("provenance.json", packages=["torch"]), "provenance.json: packages: expected a mapping; got a list"),
        (changed("provenance.json", stand_ins=None), "provenance.json: stand_ins: expected a value; got none"),
        (
            changed("provenance.json", stand_ins=[{"part": "encoder"}]),
            "provenance.json: stand_ins.0.name: expected a value",
        ),
        (changed("provenance.json", device="\ud800"), "provenance.json: expected text; got half of a character"),
        (
            changed("provenance.json", id_made_from=None),
            "provenance.json: expected id_made_from, what the run's id was",
        ),
        (changed("provenance.json", id_made_from__data="other"), CHANGED),
        (
            changed("provenance.json", data__fingerprint="other"),
            "provenance.json: data: expected f00dfeedbeef at 256x256x64, as in id_made_from; got 'other'",
        ),
        (holding("set_scores.json", None), "set_scores.json: absent"),
        (holding("set_scores.json", "[]"), "set_scores.json: expected a mapping; got a list"),
        (changed("set_scores.json", frechet=[1.0]), "set_scores.json: frechet: expected a mapping; got a list"),
        (changed("set_scores.json", frechet__value="1"), 'set_scores.json: frechet.value: expected a number; got "1"'),
        (
            changed("set_scores.json", frechet__value=1e300),
            "set_scores.json: frechet.value: expected less than or equal",
        ),
        (changed("set_scores.json", frechet__n=6.5), "set_scores.json: frechet.n: expected an integer; got 6.5"),
        (
            changed("set_scores.json", frechet__n=0),
            "set_scores.json: frechet.n: expected greater than or equal to 1; got 0",
        ),
        (changed("set_scores.json", kernel__p="low"), 'set_scores.json: kernel.p: expected a number; got "low"'),
        (
            changed("set_scores.json", kernel__dimension=None),
            "set_scores.json: kernel.dimension: expected a value; got none",
        ),
        (changed("set_scores.json", kernel__floor=10**400), "set_scores.json: expected numbers of at most 64 bits"),
        (holding("scores.parquet", None), "scores.parquet: absent"),
        (holding("scores.parquet", b"not parquet"), "scores.parquet: expected Parquet; got something else ("),
        (holding("scores.parquet", b""), "scores.parquet: expected Parquet; got something else ("),
        (turned, "scores.parquet: its checksums do not fit"),
        (rescored(lambda t: t.assign(psnr=t["psnr"].astype(str))), "scores.parquet: column psnr is text"),
        (rescored(lambda t: t.assign(psnr=[True] * 6)), "scores.parquet: column psnr is bool"),
        (rescored(lambda t: t.assign(psnr=[Decimal("9.5")] * 6)), "scores.parquet: column psnr is decimal128(2, 1)"),
        (
            rescored(lambda t: t.assign(psnr=-1e300)),
            "scores.parquet: column psnr: expected scores within ±1e+100; got a",
        ),
        (rescored(lambda t: t.assign(psnr=None)), "scores.parquet: column psnr is empty"),
        (rescored(lambda t: t.assign(patient=range(6))), "scores.parquet: column patient is int64, expected text"),
        (rescored(lambda t: t.drop(columns="patient")), "scores.parquet: expected a column patient; got none"),
        (rescored(lambda t: t.assign(patient="p003")), "scores.parquet: a patient is there twice"),
        (rescored(lambda t: t.assign(patient=[None, *t["patient"][1:]])), "scores.parquet: a patient has no name"),
        (rescored(lambda t: t.drop(columns="label")), "scores.parquet: expected a column label; got none"),
        (
            rescored(lambda t: t.assign(label=t["label"] + 2)),
            "scores.parquet: column label: expected 0, 1, 2; got something",
        ),
        (rescored(lambda t: t.assign(label=0.5)), "scores.parquet: column label: expected 0, 1, 2; got something else"),
        (
            rescored(lambda t: t.assign(label=[None, 0, 1, 0, 1, 0])),
            "scores.parquet: column label: expected 0, 1, 2; got",
        ),
        (rescored(lambda t: t[:0]), "scores.parquet: expected at least one patient; got none"),
    ],
)
def test_a_run_with_a_bad_file_is_a_row_that_says_which_and_why(
    make_run: MakeRun, act: Callable[[Path], None], reason: str
) -> None:
    good, bad = make_run("l1_lpips"), make_run("l1", gain=2.0)
    act(bad)
    first, second = load_runs(good.parent)
    run, other = (first, second) if first.id == bad.name else (second, first)
    assert run.state == "unreadable" and run.reason is not None
    assert run.reason.startswith(reason) and len(run.reason) < 200 and "\n" not in run.reason
    assert not any(f"p{number:03d}" in run.reason for number in range(6))
    assert (run.id, run.variant, run.scale, run.seed, run.dataset) == (bad.name, "l1", "cpu", 0, "")
    assert (run.scores, run.set_scores, run.provenance, run.progress, run.starts) == (None, None, None, None, 1)
    assert run.updated == max(path.stat().st_mtime for path in bad.iterdir())
    of_config = reason.startswith("config.yaml")
    assert run.label == ("l1" if of_config else "L1") and bool(run.config) == (not of_config)
    assert (run.section, run.note, run.stand_ins) == (None if of_config else "Loss", "", ())
    assert (run.recipe == "{}") == of_config
    legible = not reason.startswith("provenance.json") or any(of in reason for of in ("id_made_from", "fingerprint"))
    assert run.cohort == ("f00dfeedbeef" if legible else None)
    assert other.state == "done" and other.scores is not None
    (group,) = group_runs([run, other])
    assert (group.runs, group.unreadable) == ((other,), (run,))
    json.loads(json.dumps(run.config, sort_keys=True))


def test_a_config_whose_id_was_made_with_another_weight_is_told(make_run: MakeRun) -> None:
    bad = make_run("l1_adv", config={"loss": {"name": "l1_adv", "l1": {"weight": 1}, "adv": {"weight": 0.001}}})
    changed("config.yaml", loss__adv__weight=5)(bad)
    (run,) = load_runs(bad.parent)
    assert run.reason == "config.yaml: loss.adv.weight is 5, where the run's id was made with 0.001"


def test_the_window_of_a_baseline_is_that_of_its_id(make_run: MakeRun) -> None:
    folder = make_run("baseline_mean")
    about = json.loads((folder / "provenance.json").read_text())
    made_from = {"config": {}, "data": about["data"]["fingerprint"], "window": [-100, 900], "format": 4}
    (folder / "provenance.json").write_text(json.dumps(about | {"id_made_from": made_from}))
    renamed = folder.rename(folder.with_name(f"baseline_mean-cpu-s0-{digest(made_from)}"))
    (run,) = load_runs(folder.parent)
    assert run.state == "done"
    changed("config.yaml", dataset__window__low_hu=-500.0)(renamed)
    (run,) = load_runs(folder.parent)
    assert run.reason == "config.yaml: HU window is -500..900, where the run's id was made with -100..900"


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_unfinished_run_may_lack_what_it_was_made_from_but_not_contradict_it(make_run: MakeRun, state: str) -> None:
    folder = make_run("l1", state=state)
    changed("config.yaml", sampler__steps=500)(folder)
    (run,) = load_runs(folder.parent)
    assert run.reason == "config.yaml: sampler.steps is 500, where the run's id was made with 25"
    changed("provenance.json", id_made_from=None)(folder)
    (run,) = load_runs(folder.parent)
    assert run.state == {"failed": "failed", "running": "interrupted"}[state]
    (folder / "provenance.json").write_text('{"data": "phantom"}')
    (run,) = load_runs(folder.parent)
    assert run.reason == 'provenance.json: data: expected a mapping; got "phantom"'


def test_what_nobody_has_thought_of_is_one_bad_row(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("l1")
    for error, reason in (
        (RecursionError("too\ndeep"), "RecursionError: too deep"),
        (MemoryError("Unable to allocate"), "MemoryError: Unable to allocate"),
        (KeyError("odd"), "KeyError: 'odd'"),
    ):
        monkeypatch.setattr(files, "read_scores", Mock(side_effect=error))
        (run,) = load_runs(folder.parent)
        assert (run.state, run.reason) == ("unreadable", reason)
    monkeypatch.setattr(files, "read_scores", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load_runs(folder.parent)


def test_a_variant_may_hold_what_a_file_name_may(make_run: MakeRun) -> None:
    name = "L1-s2_v1.5+adv-cpu"
    bad = make_run(name, seed=12)
    holding("config.yaml", None)(bad)
    (run,) = load_runs(bad.parent)
    assert (run.variant, run.scale, run.seed, run.label) == (name, "cpu", 12, name)


def test_a_label_is_one_line(make_run: MakeRun) -> None:
    row = {"section": "Loss\r\n", "label": "L1\n| +\x1b[31m", "note": "a\u2028b  c"}
    folder = make_run("ours", config={"table2": row, "dataset": {**CONFIG["dataset"], "folder": "/data/my  ct"}})
    (run,) = load_runs(folder.parent)
    assert (run.state, run.section, run.label, run.note) == ("done", "Loss", "L1 | + [31m", "a b  c")
    assert run.config["dataset"]["folder"] == "/data/my  ct"
    # What training writes where a variant has none.
    changed("config.yaml", table2=None)(folder)
    (run,) = load_runs(folder.parent)
    assert (run.label, run.section) == ("ours", None)


@pytest.mark.parametrize("kind", [int, bool, float, "int8", "float32"])
def test_labels_are_integers_whatever_they_were_written_as(make_run: MakeRun, kind: Any) -> None:
    folder = make_run("l1")
    rescored(lambda table: table.assign(label=table["label"].astype(kind), n_slices=range(6)))(folder)
    (run,) = load_runs(folder.parent)
    assert run.scores is not None
    assert run.scores["label"].dtype == "int64" and list(run.scores["label"]) == [0, 1] * 3
    assert run.scores["n_slices"].dtype == "float64"


def test_an_unknown_label_and_absent_scores_are_no_fault(make_run: MakeRun) -> None:
    folder = make_run("l1")
    rescored(lambda table: table.assign(label=2, ms_ssim=math.nan, psnr=[math.inf, None, 1, 2, 3, 4])[1:])(folder)
    (run,) = load_runs(folder.parent)
    assert run.scores is not None and list(run.scores["label"]) == [2] * 5
    assert math.isnan(run.scores["psnr"][0]) and list(run.scores.columns)[:2] == ["patient", "label"]


def test_a_distance_that_is_not_finite_is_none(make_run: MakeRun) -> None:
    folder = make_run("l1")
    changed("set_scores.json", frechet__value=math.nan, kernel__value=math.inf)(folder)
    (run,) = load_runs(folder.parent)
    assert run.set_scores is not None and [run.set_scores[key]["value"] for key in ("frechet", "kernel")] == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda folder: folder.rename(folder.with_name(folder.name + "-copy")), "its name is no run id"),
        (lambda folder: folder.rename(folder.with_name("l1-cpu-s01-0123456789ab")), "its name is no run id"),
        (lambda folder: folder.rename(folder.with_name("l1 b-cpu-s1-0123456789ab")), "its name is no run id"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no status.json in it, it has not begun"),
        (
            lambda folder: [(folder / n).unlink() for n in ("status.json", "scores.parquet", "set_scores.json")],
            "not begun",
        ),
    ],
)
def test_odd_folders_are_skipped_with_a_line_that_says_why(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture, act: Callable[[Path], Any], why: str
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
    assert ": skipped: " in message and why in message and "\n" not in message


def test_a_run_that_has_only_just_begun_is_no_bad_row(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_run("l1", state="running")
    (folder / "config.yaml").unlink()
    with RunDirectory(folder).owned():
        assert load_runs(folder.parent) == []
        assert "no config.yaml in it yet" in caplog.text
    (run,) = load_runs(folder.parent)
    assert run.reason == "config.yaml: absent"


def test_a_copied_folder_is_not_counted_twice(make_run: MakeRun) -> None:
    folder = make_run("l1")
    shutil.copytree(folder, folder.with_name("l1-cpu-s0-0123456789ab"))
    runs = {run.id: (run.state, run.reason) for run in load_runs(folder.parent)}
    assert runs == {folder.name: ("done", None), "l1-cpu-s0-0123456789ab": ("unreadable", CHANGED)}


def test_unreadable_runs_join_the_groups_that_they_may_belong_to(make_run: MakeRun) -> None:
    make_run("l1", updated=1)
    make_run("l1", updated=9, cohort="0123456789ab")
    runs = make_run("l1", updated=5, scale="smoke").parent
    bad = {
        "known": make_run("l1_adv"),
        "unknown": make_run("l1_lpips"),
        "other": make_run("l1_cls", cohort="ba5eba11"),
        "alone": make_run("full", scale="paper"),
        "alone too": make_run("full", scale="paper", seed=1),
    }
    for folder in bad.values():
        holding("scores.parquet", b"")(folder)
    for name in ("unknown", "alone", "alone too"):
        holding("provenance.json", "[]")(bad[name])
    os.utime(bad["alone"] / "status.json", (2e9, 2e9))
    groups = group_runs(load_runs(runs))
    told = [(g.scale, g.cohort, len(g.runs), {run.id for run in g.unreadable}) for g in groups]
    assert told == [
        ("cpu", "0123456789ab", 1, {bad["unknown"].name}),
        ("smoke", "f00dfeedbeef", 1, set()),
        ("cpu", "f00dfeedbeef", 1, {bad["known"].name}),
        ("paper", None, 0, {bad["alone"].name, bad["alone too"].name}),
        ("cpu", "ba5eba11", 0, {bad["other"].name}),
    ]
    assert (groups[3].name, groups[3].dataset, groups[3].updated) == ("scale paper, data unknown", "", 2e9)
    assert Group("paper", "", None, ()).updated == 0.0


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
    assert [run.id for run in chosen_runs(group)["l1"]] == [done.name]
    shutil.rmtree(done)
    (group,) = group_runs(load_runs(done.parent))
    assert [run.state for run in chosen_runs(group)["l1"]] == ["interrupted"]


def test_the_recipe_of_most_finished_seeds_is_chosen_then_the_latest(make_run: MakeRun) -> None:
    other = {"sampler": {"name": "ddpm", "steps": 5}}
    runs = make_run("l1", seed=0, updated=1000).parent
    make_run("l1", seed=0, updated=2000, config=other)

    def steps() -> list[tuple[int, bool]]:
        return [
            (run.seed, run.config["sampler"] == other["sampler"])
            for run in chosen_runs(group_runs(load_runs(runs))[0])["l1"]
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
    assert [run.seed for run in chosen_runs(group)["l1"]] == [0, 1]
    assert group.runs[0].config["denoiser"] == denoiser


def test_baselines_are_no_variants(make_run: MakeRun) -> None:
    make_run("baseline_mean")
    (group,) = group_runs(load_runs(make_run("l1").parent))
    assert list(chosen_runs(group)) == ["l1"] and len(group.runs) == 2


def begun(root: Path, config: Config) -> Run:
    """The run of a resolved config as it is read, after training wrote what it writes first."""
    directory = RunDirectory(root / run_id(config, "f00d"))
    directory.report("failed", "train")
    directory.write_config(config)
    made_from, data = run_identity(config, "f00d"), {"cohort": "c0ffee", "fingerprint": "f00d"}
    directory.write("provenance.json", {"id_made_from": made_from, "data": data, "stand_ins": []})
    (run,) = load_runs(root)
    assert (run.state, run.reason) == ("failed", None)
    return run


@pytest.mark.parametrize("variant", ["l1", "full", "res_512", "lidc_lora", "label_cfg_known", "vqgan_3d"])
def test_a_config_is_read_as_training_reads_it(tmp_path: Path, variant: str) -> None:
    config = resolve(variant, "cpu")
    run = begun(tmp_path, config)
    window = config.evaluated.options.window
    assert run.dataset == config.evaluated.name
    assert window_hu(run.config) == (window.low_hu, window.high_hu)
    assert voxels(run.config) == config.resolution.shape
    stages = [part.split() for part in steps_text(run.config).split(" → ")]
    assert stages == [[name, str(stage.steps)] for name, stage in config.stages.each.items()]
    assert (window_hu(run.config) != (-100, 900)) == (variant == "lidc_lora")


def test_the_recipe_is_what_run_ids_are_made_of(tmp_path: Path) -> None:
    config = resolve("lidc_lora", "smoke")
    run = begun(tmp_path, config)
    known = identity(config)
    assert known.pop("seed") == run.seed
    assert json.loads(run.recipe) == json.loads(json.dumps({k: v for k, v in known.items() if v is not None}))


def test_a_sweep_shows_its_own_runs_of_a_variant(make_run: MakeRun, tmp_path: Path) -> None:
    mine = make_run("l1", updated=1000.0)
    make_run("l1", updated=2000.0, config={"training": {"batch_size": 1}})
    make_run("l1_adv", updated=1500.0)
    (group,) = find_groups(tmp_path / "runs", only=mine.name)
    assert [run.id for run in group.runs] == [mine.name]
