"""Settings of classifications: what they change, what is refused, and the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from classification_parts import FOLDS, predictions, refuse
from torchvision.models import resnet50

from x2c import classify as command
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.files import file_digest
from x2c.core.resolve import scales
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.data.datasets.phantom import Phantom
from x2c.engine.classification import cost
from x2c.engine.classification import run as classifying
from x2c.engine.classification.run import ARMS, Request, classify
from x2c.engine.classification.settings import resolve_settings

pytestmark = pytest.mark.usefixtures("undisturbed")


# Settings


@pytest.mark.parametrize("scale", scales())
def test_every_scale_has_settings(scale):
    settings = resolve_settings(scale)
    assert settings.folds >= 3 and settings.xrays.source == ""
    assert (settings.folds == 6) == (scale not in ("smoke", "cpu"))


def test_overrides_win_and_others_stay():
    settings = resolve_settings("smoke", ["volumes.learning_rate=1e-2", "folds=4"])
    assert (settings.folds, settings.volumes.learning_rate) == (4, 0.01)
    assert settings.volumes.steps == resolve_settings("smoke").volumes.steps
    assert settings.xrays == resolve_settings("smoke").xrays


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("folds=2", "folds"),
        ("folds=many", "folds"),
        ("volumes.batch_size=1", "volumes.batch_size"),
        ("volumes.stesp=3", "volumes.stesp"),
        ("volumes.size=64", "volumes.size"),
        ("xrays.size=16", "xrays.size"),
        ("xrays.steps=0", "xrays.steps"),
        ("xrays.weight_decay=-1", "xrays.weight_decay"),
        ("xrays.learning_rate=.nan", "xrays.learning_rate"),
        ("xrays=3", "xrays"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(override, field):
    with pytest.raises(UserError, match=rf"^classification\.{field}: .*; got ") as caught:
        resolve_settings("smoke", [override])
    assert "\n" not in str(caught.value)


def name_of(request: Request) -> str:
    """The name of a request's directory; nothing is classified."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifying, "_classify", lambda *_: None)
        return classify(request).path.name


def test_whatever_changes_a_prediction_is_another_classification(ask, painted):
    changes = [
        (),
        ("classification.volumes.steps=3",),
        ("classification.xrays.size=40",),
        ("stages.xray.steps=2",),
        ("sampler.steps=3",),
        ("dataset.cohort=3",),
    ]
    found = {name_of(ask("l1", *change)) for change in changes}
    assert len(found) == len(changes)
    assert name_of(ask("l1", "compute.workers=1", "evaluation.batch_size=2")) == name_of(ask())


# Weights of RadImageNet


def radimagenet(file: Path, bias: float = 0.1) -> Path:
    """RadImageNet's state in torchvision's layout, of zeros but for what normalises; small, as every tensor is one number."""
    with torch.device("meta"):
        shapes = resnet50().state_dict()
    number = {"running_var": 1.0, "bias": bias}
    state = {n: torch.tensor(number.get(n.split(".")[-1], 0)).to(v.dtype).expand(v.shape) for n, v in shapes.items()}
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, file)
    return file


def test_xrays_start_from_radimagenet_where_there_is_a_copy(ask, painted, tmp_path):
    without = classify(ask())
    file = radimagenet(tmp_path / "resnet50.pt")
    directory = classify(ask("l1", f"classification.xrays.source={file}"))
    stand_ins = json.loads((directory.path / "provenance.json").read_text())["stand_ins"]
    assert "xray_classifier" not in {entry["part"] for entry in stand_ins}
    before, after = predictions(without), predictions(directory)
    assert np.isfinite(after["score"]).all()
    assert set(before["arm"][before["score"] != after["score"]]) == {"xray"}


def test_a_copy_that_is_not_there_names_its_option(ask, tmp_path):
    with pytest.raises(UserError, match=r"^classification\.xrays\.source: no file .*gone\.pt"):
        classify(ask("l1", f"classification.xrays.source={tmp_path / 'gone.pt'}"))


@pytest.mark.parametrize("change", ["moved", "replaced", "found"])
def test_weights_count_by_their_content(change, ask, painted, tmp_path, monkeypatch):
    file = radimagenet(tmp_path / "radimagenet_resnet50.pt")
    option = f"classification.xrays.source={file}"
    if change == "moved":
        other = shutil.copy(file, tmp_path / "other.pt")
        assert name_of(ask("l1", option)) == name_of(ask("l1", f"classification.xrays.source={other}"))
    elif change == "replaced":
        before = name_of(ask("l1", option))
        radimagenet(file, bias=0.2)
        assert name_of(ask("l1", option)) != before
    else:
        before = name_of(ask())
        (tmp_path / "SHA256SUMS").write_text(f"{file_digest(file)}  {file.name}\n")
        monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path))
        assert name_of(ask()) != before


# What is refused


@pytest.mark.parametrize(
    ("variant", "overrides", "message"),
    [
        ("label_cfg_known", [], r"^guidance\.given: 'known' tells .*; set --guidance\.given=unknown$"),
        ("label_cfg", ["guidance.given=known"], r"^guidance\.given: 'known'"),
        (
            "l1",
            ["dataset.fold=1/3"],
            r"^dataset\.fold: .*lays its own folds; leave it out, or set classification\.folds$",
        ),
        ("lidc_lora", ["finetuning.fold=1/3"], r"^finetuning\.fold: .*lays its own folds"),
        ("l1", ["classification.folds=2"], r"^classification\.folds: .*got 2; see .*base\.yaml$"),
        ("l1", ["classification.fold=5"], r"^classification\.fold: expected a known key; got 'fold'; see "),
        ("l1", ["encoder=clip_l14"], r"weights: clip_l14 "),
        ("l2", [], r"^--variant: expected a known variant; got 'l2'; did you mean"),
    ],
)
def test_what_cannot_be_classified_is_refused_before_any_work(variant, overrides, message, ask):
    with pytest.raises(UserError, match=message) as caught:
        classify(ask(variant, *overrides))
    assert "\n" not in str(caught.value)
    assert not Path(ask().config().compute.runs).exists()


@pytest.mark.parametrize(
    ("variant", "loss", "role"), [("l1", "l1", "dataset"), ("lidc_lora", "l1_lpips", "finetuning")]
)
def test_a_data_set_without_both_labels_is_refused(variant, loss, role, ask, monkeypatch):
    monkeypatch.setattr(Phantom, "labelled", False)
    # `cls` in the loss would ask for labels of its own.
    with pytest.raises(UserError, match=rf"^{role}: a classification needs labels 0 and 1"):
        classify(ask(variant, f"loss={loss}"))


def test_more_folds_than_patients_of_a_kind_are_refused(ask, painted, cohort):
    positive = int((cohort.labels == 1).sum())
    request = ask("l1", f"classification.folds={positive + 1}")
    with pytest.raises(UserError, match=rf"expected at most {positive} folds, .*; got {positive + 1};"):
        classify(request)
    (path,) = Path(request.config().compute.runs, "classifications").iterdir()
    status = RunDirectory(path).status()
    assert status["state"] == "failed" and f"at most {positive} folds" in status["reason"]


def test_too_many_folds_name_their_option(ask, painted):
    with pytest.raises(UserError, match=r"^classification\.folds: "):
        classify(ask("l1", "classification.folds=7"))


def test_as_many_folds_as_there_are_patients_of_a_kind_will_do(ask, painted, cohort):
    positive = int((cohort.labels == 1).sum())
    table = predictions(classify(ask("l1", f"classification.folds={positive}")))
    by_fold = table[table["split"] == "test"].groupby(["arm", "fold"])["label"]
    assert len(by_fold) == len(ARMS) * positive and (by_fold.sum() == 1).all()


# How long


def test_a_classifiers_step_is_measured_once_on_a_device(ask, monkeypatch, tmp_path):
    measured = []
    monkeypatch.setattr(
        cost, "_measured", lambda config, settings: measured.append(1) or {"volumes": 2.0, "xrays": 0.5}
    )
    request = ask("l1", f"compute.cache={tmp_path}")
    volumes, xrays = (getattr(request.settings(), kind).steps for kind in ("volumes", "xrays"))
    whole = FOLDS * (2 * 2.0 * volumes + 0.5 * xrays)
    assert cost.seconds_to_fit(request, "a processor") == cost.seconds_to_fit(request, "a processor") == whole
    first = classifying.fold_file(classifying.directory_of(request), "ctpa", 1)
    first.parent.mkdir(parents=True)
    first.touch()
    assert cost.seconds_to_fit(request, "a processor") == whole - 2.0 * volumes and len(measured) == 1
    cost.seconds_to_fit(request, "another")
    assert len(measured) == 2
    classifying.directory_of(request).report("done", "done")
    assert cost.seconds_to_fit(request, "a third") == 0.0 and len(measured) == 2


# The command


def test_help_teaches_without_importing_torch():
    code = (
        "import runpy, sys; sys.argv = ['classify.py', '--help']\n"
        "try: runpy.run_path('x2c/classify.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch imported:', 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True).stdout
    assert "torch imported: False" in told
    for word in ("--variant full", "--generated single", "cross_fitted", "folds", "RadImageNet", "--scale", "Table 3"):
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--varient", "l1"], ["--varient", "did you mean --variant?"]),
        (["--generated", "both"], ["--generated", "'both'", "single"]),
        (["--seed", "x"], ["--seed", "'x'"]),
        (["extra"], ["'extra'"]),
        (["--scale", "smok"], ["--scale", "did you mean 'smoke'"]),
        (["--scale=smoke", "--variant=l2"], ["--variant", "'l2'", "choices: "]),
        (["--scale=smoke", "--classification.folds=2"], ["classification.folds", "got 2"]),
        (["--scale=smoke", "--classification"], ["--classification"]),
        (["--scale=smoke", "--trainig.batch_size=1"], ["trainig", "did you mean 'training'"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, parts, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["classify.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(command.main)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert len(said.strip().splitlines()) == 1 and said.startswith("error: ")
    assert all(part in said for part in parts), said
    assert list(tmp_path.iterdir()) == []


def test_so_it_is_as_typed():
    line = [sys.executable, "x2c/classify.py", "--variant", "l1", "--scael", "smoke"]
    told = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.count("\n") == 1 and "did you mean --scale?" in told.stderr


@pytest.mark.parametrize("option", ["compute.runs", "compute.cache"])
def test_a_folder_that_cannot_be_written_names_its_option(option, ask):
    with pytest.raises(UserError, match=rf"^{option}: "):
        classify(ask("l1", f"{option}=/proc/none"))


def test_the_table_of_a_finished_classification_is_printed_at_once(finished, monkeypatch, capsys, tmp_path):
    request, directory, _ = finished
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifying, "fit", refuse)
    arguments = ["--variant=l1", "--scale=smoke", *(f"--{override}" for override in request.overrides)]
    monkeypatch.setattr(sys, "argv", ["classify.py", *arguments])
    command.main()
    told = capsys.readouterr().out
    assert "Table 3. Embolism classification" in told
    reports = tmp_path / "reports" / f"classify-{directory.path.name}"
    assert {file.name for file in reports.iterdir()} >= {"table3.md", "table3.csv"}
    assert directory.path.parents[1] == Path(request.config().compute.runs)


def test_the_command_predicts_and_prints_table_3(smoke_run, copy_of_run, smoke_cache, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    # The stages of the one generator are those of train.py.
    runs = copy_of_run(smoke_run(), tmp_path / "runs")
    stages = set((runs / "stages").iterdir())
    places = [f"--compute.cache={smoke_cache}", f"--runs={runs}", "--compute.workers=1"]
    assert command.main(["--variant=l1", "--scale=smoke", "--generated=single", *places]) == 0
    told = capsys.readouterr().out
    assert "Table 3. Embolism classification" in told and "LEAK" in told
    assert set((runs / "stages").iterdir()) == stages
    (made,) = (runs / "classifications").iterdir()
    assert RunDirectory(made).done and len(predictions(RunDirectory(made))) == 2 * len(ARMS) * 20
