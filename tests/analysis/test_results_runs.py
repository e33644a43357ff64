"""The results page: which runs have a place of their own on it, and the commands that make it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fabricated import write_classification
from test_results import ATLAS, GRID, LAST, LOSSES, OPTIONS, beside, on, page

from analysis.page import pictures
from x2c.core.script import PROJECT

MakeRun = Callable[..., Path]
TUNED = "11dc11dc11dc"


def swept(name: str, option: str) -> list[int]:
    """The values of an option that a sweep of the project goes through."""
    sweep: dict[str, Any] = yaml.safe_load((PROJECT / "sweeps" / f"{name}.yaml").read_text())
    values: list[int] = sweep["parameters"][option]["values"]
    return values


FEWEST, FEW, USUAL, MOST = swept("training_steps", "stages.xray.steps")
SAMPLING = swept("sampler_steps", "sampler.steps")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without pictures, which take most of its time."""
    monkeypatch.setattr(pictures, "_ORDER", ())


def tuned(dataset: str = "phantom", first: str = "phantom", **more: Any) -> dict[str, Any]:
    """A run that was trained on one data set and fine-tuned to other patients of the same or another."""
    window = {"low_hu": -1200.0, "high_hu": 600.0}
    stages = {"order": ["xray", "lidc"], "xray": {"data": "dataset", "steps": 300}}
    return on(
        first,
        finetuning={"name": dataset, "train": 8, "cohort": 2, "contrast": False, "window": window},
        stages=stages | {"lidc": {"data": "finetuning", "steps": 50, "lora_rank": 4}},
        **more,
    )


def blocks(text: str) -> list[list[str]]:
    """The lines of its blocks of code."""
    return [block.strip().split("\n") for block in text.split("```")[1::2]]


def test_the_page_is_made_by_reproduce_or_one_by_one(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    for variant in LOSSES:
        for seed in (0, 1):
            make_run(variant, seed=seed)
    make_run("clip", seed=2)
    make_run("full", config={"evaluation": {"samples": 5}})
    runs = make_run("full", updated=10, config={"evaluation": {"samples": 1}}).parent
    reproduce, single = blocks(page(runs, tmp_path))
    assert reproduce == ["make reproduce data=phantom"]
    assert single == [
        "make sweep name=samples",
        "make sweep name=losses seeds=0,1",
        "python x2c/train.py --variant clip --seed 2",
        "python x2c/train.py --variant full",
        "python analysis/results.py --scale cpu",
    ]
    make_run("l1", cohort=ATLAS, config=on("atlas"))
    assert blocks(page(runs, tmp_path))[0] == ["make reproduce"]


def test_seeds_of_a_sweep_are_those_that_all_its_cells_have(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    others = ("cfg", "label_cfg", "res_128", "res_512", "vqgan_3d", "clip", "full")
    for variant in (*LOSSES, *others):
        for seed in (0, 1, 2) if variant in LOSSES else (0,):
            make_run(variant, seed=seed)
    runs = make_run("lidc_lora", cohort=TUNED, config=tuned()).parent
    assert blocks(page(runs, tmp_path))[1][:-1] == [
        "make sweep name=ablation",
        "make sweep name=losses seeds=0,1,2",
        "make sweep name=lidc",
    ]


def test_sweeps_of_steps_do_not_take_each_others_runs(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    def steps(training: int, sampling: int) -> dict[str, Any]:
        stages = {"order": ["xray"], "xray": {"data": "dataset", "steps": training}}
        return {"stages": stages, "sampler": {"name": "dpm++", "steps": sampling}}

    usual, *others = SAMPLING
    make_run("l1_lpips", config=steps(USUAL, usual))
    for sampling in others:
        make_run("l1_lpips", updated=10, config=steps(USUAL, sampling))
    for training in (FEWEST, FEW):
        make_run("l1_lpips", updated=10, config=steps(training, usual))
    runs = tmp_path / "runs"
    last = ["python x2c/train.py --variant l1_lpips", "python analysis/results.py --scale cpu"]
    text = page(runs, tmp_path)
    assert blocks(text)[1] == ["make sweep name=sampler_steps", *last]
    make_run("l1_lpips", updated=10, config=steps(MOST, usual))
    text = page(runs, tmp_path)
    assert blocks(text)[1] == ["make sweep name=sampler_steps", "make sweep name=training_steps", last[1]]
    assert "3 runs of l1_lpips for the figure of sampling steps; 3 runs of l1_lpips for the figure of training" in text


def test_runs_without_a_row_say_what_they_are_for(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    steps = {"rspect": {"steps": 500}, "order": ["xray"], "xray": {"data": "dataset", "steps": FEWEST}}
    make_run("l1_lpips", updated=10, config={"stages": steps})
    for number in SAMPLING[1:3]:
        make_run("l1_lpips", updated=20, config={"sampler": {"name": "dpm++", "steps": number}})
    several = make_run("full", updated=30, config={"evaluation": {"samples": 5}})
    make_run("l1", updated=30, config={"prediction": {"name": "x0"}})
    make_run("l1_lpips")
    make_run("l1")
    text = page(make_run("full").parent, tmp_path)
    told = (
        "- With other settings, and not in these rows: 1 run of full for the check of several samples; 2 runs of l1_lpips "
        "for the figure of sampling steps; 1 run of l1_lpips for the figure of training steps; 1 run of l1 with another recipe."
    )
    assert text.count("With other settings") == 1 and told in text
    assert "Left out" not in text
    assert f"full,samples,{several.name}\n" in beside(tmp_path, "phantom_runs.csv")


def test_the_fine_tuned_model_stands_in_its_data_sets_section(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_ORDER", ("lidc",))
    make_run("full")
    make_run("full", cohort=ATLAS, config=on("atlas"))
    runs = make_run("lidc_lora", cohort=TUNED, config=tuned(), updated=5000, samples=GRID).parent
    make_run("baseline_nearest", cohort=TUNED, config=tuned())
    write_classification(runs, "lidc_lora", cohort=TUNED)
    text = page(runs, tmp_path)
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == ["Phantom", "Atlas", *LAST]
    section, atlas = text.split("\n## ")[1:3]
    assert (
        "### Table 4. Fine-tuned to other patients by adapters (in the place of LIDC)\n\n"
        "Adapters of rank 4 alone were trained further, on 8 other patients of phantom without contrast agent, and scored "
        f"on 6 test patients of the same kind, in the HU window −1200..600 HU (cohort `{TUNED}`).\n\n"
        "![Volumes after fine-tuning by adapters, variant lidc_lora](docs/results/phantom_lidc.png)"
    ) in section
    assert "some of 6 test patients; slices in the window −1200..600 HU" in section
    assert "(f00dfeedbeef)" not in section and "cohort f00dfeedbeef" in section
    assert "| HU window | Table 2: −100..900 HU<br>Table 4: −1200..600 HU |" in section
    # Its patients have no checks and no claims.
    assert "| Question | Phantom<br>*of X-ray2CTPA* | Atlas<br>*of X-ray2CTPA* |" in text
    assert "| Claim | Phantom | Atlas |" in text and "over all 2 checks of this page that are tests" in text
    assert "Table 4" not in atlas and "Not drawn: lidc: no finished run of lidc_lora at scale cpu." in atlas
    # Who asks for the home's patients alone sees it as well, and who asks for its own patients it alone.
    assert "### Table 4. Fine-tuned" in page(runs, tmp_path, "--data", "f00d")
    alone = page(runs, tmp_path, "--data", TUNED[:5])
    assert re.findall(r"^##+ (.*)", alone, flags=re.MULTILINE) == [
        "Phantom",
        "Table 4. Fine-tuned to other patients by adapters (in the place of LIDC)",
        "Provenance",
        "Stand-ins",
        "How it was made",
    ]


def test_a_home_is_found_by_its_options_or_its_data_set(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    other = {"dataset": {"name": "hospital", **OPTIONS, "cohort": 7}}
    make_run("full", cohort="c7c7c7c7c7c7", config=other, updated=4000)
    for seed in (0, 1):
        make_run("full", cohort="c0c0c0c0c0c0", config=on("hospital"), seed=seed)
    config = tuned("lidc", "hospital")
    runs = make_run("lidc_lora", cohort=TUNED, config=config | {"dataset": other["dataset"]}, updated=5000).parent

    def home() -> str:
        found = [part for part in page(runs, tmp_path).split("\n## ") if "### Table 4" in part]
        assert len(found) == 1 and "### Table 4. Fine-tuned to other patients by adapters\n" in found[0]
        return found[0].splitlines()[0]

    assert home() == "Hospital (c7c7c7c7c7c7)"
    shutil.rmtree(next(runs.glob("lidc_lora-*")))
    unlike = {"name": "hospital", **OPTIONS, "cohort": 9}
    make_run("lidc_lora", cohort=TUNED, config=config | {"dataset": unlike}, updated=5000)
    assert home() == "Hospital (c0c0c0c0c0c0)"
    shutil.rmtree(next(runs.glob("lidc_lora-*")))
    make_run("lidc_lora", cohort=TUNED, config=tuned("lidc", "phantom"))
    assert home() == "Lidc"


def test_fine_tuned_on_the_same_patients_keeps_its_place(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("full")
    text = page(make_run("lidc_lora").parent, tmp_path)
    assert "### Table 4. Image quality after fine-tuning at scale cpu on phantom\n" in text
    assert "\nTable 1. Image quality at scale cpu on phantom: `full` of Table 2, against the nearest" in text


def test_baselines_alone_make_no_section(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("baseline_mean", cohort=TUNED, config=tuned(), updated=5000)
    make_run("lidc_lora", cohort=TUNED, config=tuned(), state="running")
    text = page(make_run("full").parent, tmp_path)
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == ["Phantom", *LAST]


def test_the_order_is_that_of_a_reader_in_a_hurry(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("l1")
    runs = make_run("full").parent
    make_run("lidc_lora", cohort=TUNED, config=tuned())
    write_classification(runs, "full")
    text = page(runs, tmp_path)
    titles = re.findall(r"^##+ (.*?)[.]? ?(?:Abl|Emb|Fine|$)", text, flags=re.MULTILINE)
    assert titles == ["Phantom", "Table 2", "Table 3", "Table 4", "Provenance", *LAST]
    # Links at the top lead past the tables.
    assert (
        "- [Do the results make sense?](#do-the-results-make-sense)\n- [The paper's claims](#the-papers-claims)\n"
        in text
    )
