"""The results page: what is on it, that it is the same every time, and that it names no machine."""

from __future__ import annotations

import argparse
import csv
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import predictions, write_classification
from PIL import Image

from analysis import results
from analysis.page import page as results_page
from analysis.page import pictures, sheets

MakeRun = Callable[..., Path]
GRID = (16, 48, 64)
ATLAS = "a71a5a71a5a7"
LOSSES = ("l1", "l1_lpips", "l1_adv", "l1_cls", "l1_lpips_adv")
OPTIONS = {"train": 12, "cohort": 0, "window": {"low_hu": -100.0, "high_hu": 900.0}}
HARD = "\N{NO-BREAK SPACE}"
LAST = ["Do the results make sense?", "The paper's claims", "Stand-ins", "How it was made"]
LINK = re.compile(r"\]\((docs/results/[^)]+)\)")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without pictures, which take most of its time."""
    monkeypatch.setattr(pictures, "_ORDER", ())


def on(dataset: str, **more: Any) -> dict[str, Any]:
    return {"dataset": {"name": dataset, **OPTIONS}, **more}


def page(runs: Path, out: Path, *more: str) -> str:
    assert results.main(["--runs", str(runs), "--out", str(out), *more]) == 0
    return (out / "RESULTS.md").read_text(encoding="utf-8")


def beside(out: Path, name: str) -> str:
    """The text of a file beside the page."""
    return html.unescape((out / "docs" / "results" / name).read_text(encoding="utf-8"))


def lines_of(out: Path, name: str) -> list[dict[str, str]]:
    """The lines of a CSV beside the page."""
    return list(csv.DictReader(io.StringIO((out / "docs" / "results" / name).read_text(encoding="utf-8"))))


def curve(run: Path) -> None:
    lines = [{"step": step, "stage": "xray", "loss": 1 / step, "validation_loss": 1 / step} for step in range(1, 41)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.slow
def test_two_runs_of_the_command_give_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    curve(make_run("l1", samples=GRID))
    runs = make_run("baseline_nearest").parent
    write_classification(runs, "l1")
    out = tmp_path / "page"
    text = page(runs, out)
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    drawn = {"visual_ablation", "volumes", "roc", "distributions", "training"}
    beside = {
        f"{name}.{suffix}" for name in ("table2", "table3", "checks", "claims", "runs") for suffix in ("html", "csv")
    }
    names = {f"{name}.png" for name in drawn} | beside
    assert files.keys() == {"RESULTS.md"} | {f"docs/results/phantom_{name}" for name in names}
    assert sum(map(len, files.values())) < 8e6
    for name in drawn:
        link = f"docs/results/phantom_{name}.png"
        assert f"]({link})" in text
        with Image.open(out / link) as image:
            assert image.width == 1600 and image.mode in ("L", "P", "RGB")
    assert text.index("visual_ablation.png") < text.index("### Table 2")
    page(runs, out)
    page(runs, tmp_path / "again")
    for folder in (out, tmp_path / "again"):
        assert {path: (folder / path).read_bytes() for path in files} == files


def test_captions_tell_scale_number_and_window(make_run: MakeRun, tmp_path: Path) -> None:
    runs = make_run("l1", samples=GRID).parent
    text = page(runs, tmp_path)
    (caption,) = re.findall(r"^\*(X-ray, truth.*)\*$", text, flags=re.MULTILINE)
    assert "Scale cpu, data set phantom; some of 6 test patients; slices in the window −100..900 HU" in caption
    assert (
        "*Generated CT beside the true one (as the paper's Fig. 2). Scale cpu, data set phantom; variant L1; " in text
    )


def test_files_of_runs_that_are_gone_go_too(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    (folder / "phantom_old.png").touch()
    (folder / "notes.txt").touch()
    runs = make_run("l1").parent
    make_run("l1", cohort=ATLAS, config=on("atlas"))
    write_classification(runs, "l1")
    page(runs, tmp_path)
    names = {file.name for file in folder.iterdir()}
    assert {"phantom_table3.html", "phantom_table3.csv", "atlas_claims.html", "atlas_claims.csv", "notes.txt"} <= names
    assert "phantom_old.png" not in names
    shutil.rmtree(next(path for path in runs.parent.rglob("classif*") if path.is_dir()))
    text = page(runs, tmp_path, "--data", "phantom")
    names = {file.name for file in folder.iterdir()}
    assert names == {Path(link).name for link in LINK.findall(text)} | {"notes.txt"}
    assert "phantom_table2.csv" in names and not any("atlas" in name or "table3" in name for name in names)


def test_phantom_comes_first_then_atlas_then_others(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("l1", cohort="c7c7c7c7c7c7", config=on("hospital"), updated=3000)
    make_run("l1", cohort=ATLAS, config=on("atlas"), updated=2000)
    make_run("l1", updated=4000, scale="smoke")
    runs = make_run("l1").parent
    text = page(runs, tmp_path, "--scale", "cpu")
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == ["Phantom", "Atlas", "Hospital", *LAST]
    assert text.startswith("<!-- Generated by `python analysis/results.py --scale cpu` from")
    assert "- [Atlas](#atlas)" in text and "smoke" not in text
    assert text.count("### Table 2. Ablation at scale cpu on ") == 3
    # Holm's correction runs over the page: its checks are tests of all three.
    assert re.findall(r"correction over all (\d+) checks of this page", text) == ["3"]
    for dataset in ("phantom", "atlas", "hospital"):
        assert "over all 3 checks of the page" in beside(tmp_path, f"{dataset}_checks.html")
    for question in ("Question", "Claim"):
        assert f"| {question} | Phantom<br>" in text or f"| {question} | Phantom | Atlas | Hospital |" in text


def test_one_data_set_is_told_and_no_error(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    runs = make_run("l1", scale="gpu").parent
    text = page(runs, tmp_path)
    assert "- Atlas: no finished run at this scale; `make reproduce scale=gpu data=atlas`" in text
    assert "no finished run at this scale" not in page(runs, tmp_path, "--data", "phantom")


def test_a_missing_classification_is_told(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    runs = make_run("l1_lpips", cohort=ATLAS, config=on("atlas")).parent
    write_classification(runs, "l1_lpips")
    text = page(runs, tmp_path)
    command = "python x2c/classify.py --variant l1_lpips --data atlas"
    assert f"### Table 3\n\nNothing was classified on these patients; run: `{command}`." in text
    assert "| Do generated volumes carry embolism signal? | **not measured** |" in text
    assert f"No finished classification; run: `{command}`" in beside(tmp_path, "atlas_checks.html")


def test_every_classification_has_a_table(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    runs = make_run("full").parent
    table = predictions()
    table.loc[table["fold"] == 2, "label"] = 0
    write_classification(runs, "l1", updated=3000)
    write_classification(runs, "l1_adv", table=table)
    write_classification(runs, "full", generated="single")
    text = page(runs, tmp_path)
    title = "Table 3. Embolism classification at scale cpu on phantom, volumes generated by"
    assert f"### {title} full" in text and f"\n{title} l1: [HTML](docs/results/phantom_table3_" in text
    of_adv = next(path for path in (tmp_path / "docs" / "results").glob("phantom_table3_l1_adv*.html")).name
    assert "no area: fold 2 has no positive case" in beside(tmp_path, of_adv)
    assert "LEAK: one generator made all volumes" in text + beside(tmp_path, "phantom_table3.html")
    assert "python x2c/classify.py --variant full --generated single" in text


def test_no_path_of_a_machine_is_on_the_page(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    reason = {"state": "failed", "reason": "OSError: cannot read /data/hospital/patient_7.nii.gz; see /root"}
    make_run("l1_adv", state="failed", status=reason, config=on("ctpa", sampler={"name": "dpm++", "steps": 25}))
    folder = {"dataset": {"name": "ctpa", "folder": "/mnt/hospital/prepared", **OPTIONS}}
    runs = make_run("l1", config=folder).parent
    text = page(runs, tmp_path)
    assert str(tmp_path) not in text and not re.search(r"(?<![\w<.])/\w+(/\w+)*", text)
    assert "cannot read PATH; see PATH" in text
    assert "make sweep name=samples data=PATH" in beside(tmp_path, "ctpa_checks.html")
    for file in (tmp_path / "docs" / "results").glob("*.html"):
        told = file.read_text(encoding="utf-8")
        assert str(tmp_path) not in told and "/mnt/hospital" not in told and "/data/hospital" not in told


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("runs=/tmp/a b", "runs=PATH b"),
        ("`/home/me/x.nii`, (/data)", "`PATH`, (PATH)"),
        ("17/6/43/12 and/or 95 % / x</details><br>*a*", "17/6/43/12 and/or 95 % / x</details><br>*a*"),
        ("docs/results/a.png ./b/c https://x.org/y", "docs/results/a.png ./b/c https://x.org/y"),
    ],
)
def test_paths_and_nothing_else_are_taken_out(text: str, cleaned: str) -> None:
    assert sheets.without_paths(text) == cleaned


def test_papers_values_stand_below_the_measured_ones(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    text = page(make_run("l1", psnr=14).parent, tmp_path)
    (line,) = [line for line in text.splitlines() if line.startswith("| L1<sup>")][:1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(cells) == 7 and cells[0].endswith("<br>n = 6")
    assert cells[2] == "14.00 ± 0.75<br>*11.61 ± 0.91*".replace(" ", HARD)
    assert cells[6].startswith(f"+1.05 (p{HARD}=")
    head = text[: text.index(line)].splitlines()[-3]
    assert head.count("|") == 8 and f"LPIPS[stand-in]{HARD}↓<sup>c</sup><br>*paper: LPIPS*" in head
    whole = beside(tmp_path, "phantom_table2.html")
    assert "Paired distance" in whole and "Paired distance" not in head
    assert f"| CFG<br>not run | –<br>*2.16{HARD}±{HARD}1.78* |" in text


def test_stand_ins_are_named_wherever_a_number_is(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("l1")
    text = page(make_run("l1_lpips").parent, tmp_path)
    assert "no number here is comparable with the paper's" in text
    letters = dict(re.findall(r"^- <sup>(\w)</sup> (.*)", text[text.index("\n## Stand-ins") :], flags=re.MULTILINE))
    assert sorted(letters) == ["a", "b", "c"] and letters["a"] == "encoder: clip_standin instead of BiomedCLIP"
    assert letters["c"] == "the metric LPIPS: alexnet_random instead of AlexNet"
    # Once for the page: tables have the letters, and a link to their meaning.
    assert text.count("clip_standin instead of") == 1 and text.count("Letters: [stand-ins](#stand-ins).") == 3
    checks = text[text.index("\n## Do the results") : text.index("\n## The paper's claims")]
    of_psnr, of_lpips = (line for line in checks.splitlines() if "Does the X-ray matter" in line)
    assert of_psnr.endswith("<sup>a</sup> |") and "X-ray matter to LPIPS[stand-in]?" in of_lpips
    for name in ("phantom_table2.html", "phantom_checks.html", "phantom_claims.html"):
        assert "Stand-in for encoder: clip_standin instead of BiomedCLIP." in beside(tmp_path, name)
    claims = text[text.index("\n## The paper's claims") : text.index("\n## Stand-ins")]
    # After a claim's own words, which may name a metric, the numbers' metrics.
    cells = [line.split("|", 2)[2] for line in claims.splitlines() if line.startswith("|")]
    tags = [tag for cell in cells for tag in re.findall(r"(?:LPIPS|Paired distance) ?(.)", cell)]
    assert tags and set(tags) == {"["}


def test_a_part_has_one_name_on_the_page(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    runs = make_run("full").parent
    write_classification(runs, "full")
    text = page(runs, tmp_path)
    assert "the classifier of X-rays: resnet50_random instead of RadImageNet ResNet-50" in text
    assert "xray_classifier" not in text and "features: " not in text and "perceptual: " not in text
    told = "(autoencoder, encoder, the classifier of X-rays, Fréchet and paired feature distances, the metric LPIPS)"
    assert f"Small stand-ins take the place of pretrained networks {told}" in text


def test_headline_and_provenance_are_of_the_runs(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    run = make_run("full")
    about = json.loads((run / "provenance.json").read_text())
    about |= {"commit": "c0ffee" * 6, "dirty": True, "device": "NVIDIA H100", "format": 3}
    about |= {"python": "3.12.3", "packages": {"torch": "2.11.0"}}
    about |= {
        "weights": {"autoencoder": {"name": "kl_f8", "source": "/w/kl", "sha256": "ab" * 32, "standing": "published"}}
    }
    (run / "provenance.json").write_text(json.dumps(about))
    make_run("full", seed=1)
    text = page(make_run("pred_eps").parent, tmp_path)
    assert "on NVIDIA H100" not in text.split("\n## ")[0]
    headline = text[text.index("## Phantom") : text.index("### Table 2")]
    for piece in (
        "Scale **cpu** on a device that was not recorded and NVIDIA H100: volumes of 16 × 64 × 64 voxels (D × H × W), "
        "6 test patients (trained on 12), seeds 0, 1; of 1 row seed 0.",
        "**1 of the 12 rows** of the paper's Table 2 are finished, and 1 row that it does not have.",
        "- The checks are about X-ray2CTPA (`full`), whose PSNR is 14.00 dB, +1.05 dB over its PSNR with another "
        "patient's X-ray.\n",
        "- Does it make sense? Of 14 checks 1 say yes (X-ray 1 of 2, Baseline 0 of 8, Samples 0 of 2, Embolism 0 of 1, "
        "Training 0 of 1), 0 no, 0 cannot tell, and 13 were not measured.",
        "- Of the paper's 13 claims 0 are supported here, 0 contradicted, 13 were not run.",
    ):
        assert piece in headline
    for piece in (
        "| Code | not recorded (× 2)<br>commit `c0ffeec0ffee` with changes that were not committed (× 1) |",
        "| Pretrained networks | autoencoder: kl_f8, SHA-256 `abababababab` (published) |",
        "Python 3.12.3, torch 2.11.0",
        "cohort `f00dfeedbeef`",
    ):
        assert piece in text
    assert f"full,,{run.name}\n" in beside(tmp_path, "phantom_runs.csv")


def test_yardsticks_are_of_the_same_sample_size(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("full")
    make_run("baseline_mean", psnr=15.25)
    make_run("baseline_nearest", psnr=12.5)
    make_run("baseline_nearest", psnr=31.5, config={"resolution": {"size": "128x128x64", "reduction": 4}})
    text = page(make_run("baseline_reconstruction", psnr=22).parent, tmp_path)
    told = (
        "For comparison: the mean training volume (nobody's anatomy) 15.25 dB, the nearest training X-ray's volume 12.50 dB, "
        "the autoencoder's ceiling 22.00 dB."
    )
    assert told in text
    single = "Nearest training X-ray (128 x 128 x 64)"
    assert single not in text and single in beside(tmp_path, "phantom_table2.html")


def test_training_of_other_rows_is_a_line(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    curve(make_run("l1"))
    make_run("l1_lpips")
    text = page(make_run("full").parent, tmp_path)
    whole = beside(tmp_path, "phantom_checks.html")
    assert text.count("converged?") == 2 and whole.count("converged?") == 3
    assert "| Has training of the other rows converged? | **0 of 2**<br>no: L1; not measured: L1 + LPIPS |" in text
    assert re.search("Still falling.*of stage xray", whole)
    assert "- Yes: significant after Holm's correction" in text and "Training has no test." in text
    assert (
        "Of training, which has no test: yes where the validation loss of every seed falls by less than 2 % from"
        in whole
    )


@pytest.mark.slow
def test_the_page_stays_short_and_all_else_lies_beside_it(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    for cohort, config in ((None, {}), (ATLAS, on("atlas"))):
        for variant in (*LOSSES, "cfg", "label_cfg", "res_128", "res_512", "vqgan_3d", "clip", "full"):
            for seed in (0, 1, 2) if variant in LOSSES else (0,):
                where = {"cohort": cohort} if cohort else {}
                curve(make_run(variant, seed=seed, config=config, **where))
        for variant in ("baseline_mean", "baseline_nearest", "baseline_reconstruction"):
            runs = make_run(variant, config=config, **where).parent
    write_classification(runs, "full")
    text = page(runs, tmp_path)
    assert text.count("| X-ray2CTPA<sup>") == 2 and len(text.encode()) / 2 < 16_000
    assert all((tmp_path / link).stat().st_size for link in LINK.findall(text))
    for dataset in ("phantom", "atlas"):
        checks = lines_of(tmp_path, f"{dataset}_checks.csv")
        assert {"says", "measured", "p", "p_holm", "n"} <= checks[0].keys()
        # Words, p and n of a tested check, and what to run for another, are in both files and not on the page.
        tested = next(check for check in checks if check["question"] == "Does the X-ray matter to PSNR?")
        assert tested["says"] and float(tested["p_holm"]) <= 1 and int(tested["n"]) == 6
        whole = beside(tmp_path, f"{dataset}_checks.html")
        assert tested["says"] in whole and tested["says"] not in text and tested["measured"] in whole
        claims = lines_of(tmp_path, f"{dataset}_claims.csv")
        command = f"run: `python x2c/train.py --variant full_no_drr{'' if dataset == 'phantom' else ' --data atlas'}`"
        assert any(command in claim["missing"] for claim in claims)
        assert command in beside(tmp_path, f"{dataset}_claims.html") and command not in text
        reasons = {claim["missing"] for claim in claims if claim["metric"] == "psnr" and claim["missing"]}
        assert reasons and not any(reason in text for reason in reasons)
        assert all(reason in beside(tmp_path, f"{dataset}_claims.html") for reason in reasons)
        assert "Bold: the best mean among the measured variants" in beside(tmp_path, f"{dataset}_table2.html")
    assert "full_no_drr: not run |" in text and "Bold: the best mean" not in text


def test_a_question_of_one_data_set_has_a_dash_for_others(make_run: MakeRun, tmp_path: Path, undrawn: None) -> None:
    make_run("l1")
    runs = make_run("full", cohort=ATLAS, config=on("atlas")).parent
    write_classification(runs, "l1")
    text = page(runs, tmp_path)
    rows = {line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[1:] for line in text.splitlines()}
    assert rows["Question"] == ["Phantom<br>*of L1*", "Atlas<br>*of X-ray2CTPA*"]
    assert rows["Has training of L1 converged?"][1] == rows["Has training of X-ray2CTPA converged?"][0] == "–"
    assert (
        rows["Is embolism seen in the true CTs?"][0].startswith("**")
        and rows["Is embolism seen in the true CTs?"][1] == "–"
    )


def test_a_missing_figure_tells_the_reason_without_the_command(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "_ORDER", ("emboli",))
    text = page(make_run("l1", config=on("hospital"), samples=GRID).parent, tmp_path)
    reason = "emboli: data hospital does not tell where emboli are, phantom and atlas do"
    assert f"- Not drawn: {reason}.\n" in text
    assert (
        f"emboli: not drawn: {reason.removeprefix('emboli: ')}; run: make sweep name=losses data=atlas"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("state", [None, "running"])
def test_nothing_to_show_exits_with_1(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str | None
) -> None:
    if state:
        make_run("l1", state=state)
        make_run("baseline_mean")
    assert results.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 1
    assert "nothing to show" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_names_exit_with_2(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    runs = make_run("l1").parent
    assert results.main(["--runs", str(runs), "--scale", "cpuu"]) == 2
    assert "did you mean 'cpu'?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        results.main(["--dta", "atlas"])


def test_the_command_is_told_without_folders() -> None:
    args = argparse.Namespace(scale=None, data="atlas", only=None, runs=Path("elsewhere"), out=Path("page"))
    assert results_page.command_of(args, "cpu") == "python analysis/results.py --scale cpu --data atlas"


def test_pictures_lose_bits_and_no_colour(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)
    grey = np.repeat(np.tile(ramp, (64, 1))[..., None], 3, axis=2)
    few = np.zeros((64, 64, 3), np.uint8)
    few[:32] = (200, 30, 90)
    red, green = np.meshgrid(ramp, ramp)
    many = np.stack([red, green, 255 - red // 2 - green // 2], axis=-1)
    for name, pixels, mode, exact in (("grey", grey, "L", True), ("few", few, "P", True), ("many", many, "RGB", True)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        pictures.compact(tmp_path / f"{name}.png", tmp_path / "small" / f"{name}.png")
        with Image.open(tmp_path / "small" / f"{name}.png") as kept:
            assert kept.mode == mode
            assert (np.asarray(kept.convert("RGB")) == pixels).all() == exact
