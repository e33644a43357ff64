"""What stands under Table 2: what was measured, with which weights and which guidance."""

from __future__ import annotations

from test_tables import Config, MakeRun, printed, row, said, table

from analysis.tabulate import quality_sheet


def test_footnotes_say_what_was_measured(make_run: MakeRun, base_config: Config) -> None:
    make_run("l1")
    stages = base_config["stages"] | {"order": ["rspect", "drr", "xray"], "drr": {"data": "pretraining", "steps": 90}}
    result = table(make_run("full", config={"stages": stages}).parent)
    text = said(result)
    for piece in (
        "Scale cpu, data set phantom (cohort f00dfeedbeef); 6 test patients; ",
        "volumes of 16 × 64 × 64 voxels",
        "HU window −100..900 HU",
        "training steps: rspect 500 → ctpa 250 → xray 300 (l1); rspect 500 → drr 90 → xray 300 (full)",
        "prediction: v; sampler: dpm++ with 25 steps; seed 0.",
        "not comparable",
        "paired features",
        "not for diagnosis",
        "As many training volumes against the test volumes: 0.5; no lower bound.",
    ):
        assert piece in text
    assert "guidance" not in text and "voxel for voxel" not in text
    # What is beyond Latin-1 has to be written as a command: plain LaTeX stops at it.
    assert (
        r"rspect 500 $\rightarrow$ ctpa" in quality_sheet.latex(result)
        and max(map(ord, quality_sheet.latex(result))) < 256
    )


def test_loss_weights_are_told_beside_the_papers_where_they_are_others(make_run: MakeRun) -> None:
    l1, lpips = {"l1": {"weight": 1.0}}, {"lpips": {"weight": 0.01}}
    make_run("l1", config={"loss": {"name": "l1", **l1}})
    assert "loss weights" not in said(table(make_run("l1_adv").parent))
    make_run("l1_lpips", config={"loss": {"name": "l1_lpips", **l1, **lpips}})
    make_run("l1_cls", config={"loss": {"name": "l1_cls", **l1, "cls": {"weight": 0.005}}})
    loss = {"name": "full", **l1, **lpips, "adv": {"weight": 1e-3}, "cls": {"weight": 0.02}}
    text = said(table(make_run("full", config={"loss": loss}).parent))
    assert "; loss weights: lpips 0.01, cls 0.005 (l1_cls); 0.02 (full) (the paper's: 0.08), adv 0.001; sampler" in text


def test_guidance_is_told_where_there_was_some(make_run: MakeRun) -> None:
    label = {"name": "label", "drop": 0.1, "scale": 2.0}
    row_of = {"section": "Classifier Free Guidance", "label": "label CFG", "note": "true label given"}
    make_run("l1")
    make_run("cfg", config={"guidance": {"name": "xray", "drop": 0.1, "scale": 2.0}})
    make_run("label_cfg", config={"guidance": label | {"given": "unknown"}})
    result = table(
        make_run("label_cfg_known", config={"guidance": label | {"given": "known"}, "table2": row_of}).parent
    )
    assert (
        "; guidance: xray, scale 2 (cfg); label unknown (label_cfg); label known, scale 2 (label_cfg_known); "
        in said(result)
    )
    known = row(result, "label_cfg_known")
    assert (known.label, known.detail) == ("label CFG", "n = 6, true label given")
    for text in (
        printed(result, 120),
        quality_sheet.markdown(result),
        quality_sheet.latex(result),
        quality_sheet.tidy_csv(result),
    ):
        assert "true label given" in text
