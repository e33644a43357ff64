"""The train script's command line, as typed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from x2c.core.about import listed
from x2c.core.cli import Parser, add_config_options, as_option, choices_text, overrides_from
from x2c.core.errors import exit_on_user_error
from x2c.core.resolve import scales, variants
from x2c.core.script import PROJECT
from x2c.train_command import main


@pytest.fixture
def train(capsys):
    """Run train.py's command in this process; returns its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            exit_on_user_error(lambda: main(arguments))
        return end.value.code, *capsys.readouterr()

    return run


def test_help_teaches_without_importing_torch():
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('x2c/train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch imported:', 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert "torch imported: False" in run.stdout
    for word in ("accelerate launch", "l1_lpips_adv", "biomedclip", "dpm++", "--scale", "paper"):
        assert word in run.stdout


def test_help_says_a_line_about_every_variant_and_scale():
    lines = choices_text().splitlines()
    said = {name: line for line in lines for name, _, _ in [line.strip().partition("  ")]}
    for name in (*variants(), *scales()):
        assert len(said[name].split(maxsplit=1)[1]) > 4, name
    assert said["cpu"].endswith("Minutes on two cores, no network. Everything pretrained is a small stand-in.")
    assert said["l1_lpips"].endswith("Loss: L1 + LPIPS")


def test_help_is_shown_whatever_a_file_holds(tmp_path):
    (tmp_path / "odd.yaml").write_bytes(b"a: \xfc\n")
    (tmp_path / "twice.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "bare.yaml").write_text("loss: l1\n")
    assert listed("files", tmp_path, ["odd", "twice", "list", "none", "bare"]).splitlines() == [
        "files:",
        "  odd    cannot be read",
        "  twice  cannot be read",
        "  list   cannot be read",
        "  none   cannot be read",
        "  bare",
    ]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--variant", "l2"], ["--variant", "'l2'", "choices: "]),
        (["--varient", "l1"], ["--varient", "did you mean --variant?"]),
        (["--variant", "l1", "--scael", "cpu"], ["--scael", "did you mean --scale?"]),
        (["--variant", "l1", "--seed", "x"], ["--seed", "'x'"]),
        (["--variant", "l1", "--seed=-1"], ["--seed: expected a whole number from 0 to 2147483647; got '-1'"]),
        (["--variant", "l1", "--seed", "2147483648"], ["--seed: expected", "from 0 to 2147483647; got '2147483648'"]),
        (["--variant", "l1", "--data", "phantm"], ["dataset", "did you mean 'phantom'"]),
        (["--variant", "l1", "--tracker", "wanb"], ["tracker", "did you mean 'wandb'"]),
        (["--variant", "l1", "--training.stesp=3"], ["training.stesp"]),
        (["--variant", "l1", "--compute.cache=/proc/none"], ["compute.cache", "/proc/none", "FOLDER"]),
        (["--variant", "l1", "extra"], ["'extra'"]),
        ([], ["--variant"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, parts, tmp_path, train):
    code, _, said = train(*arguments, "--runs", str(tmp_path)) if arguments else train()
    assert code == 2, said
    assert said.count("\n") == 1
    for part in parts:
        assert part in said
    assert list(tmp_path.iterdir()) == []


def test_the_script_itself_ends_with_the_line_and_the_code():
    line = [sys.executable, "x2c/train.py", "--variant", "l2"]
    run = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "'l2'" in run.stderr


def test_paper_scale_is_built_without_memory_and_has_its_size(train):
    _, shown, _ = train("--variant", "full", "--scale", "paper", "--check")
    assert shown.splitlines()[-1] == "# denoiser: 12.0 M parameters"


def test_a_check_tells_what_weights_are_missing(monkeypatch, tmp_path, train):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("X2C_WEIGHTS", str(tmp_path))
    code, _, said = train("--variant", "full", "--scale", "paper", "--check")
    assert code == 2 and "error: weights: kl_f8 (--autoencoder.source=" in said, said
    assert train("--variant", "full", "--scale", "smoke", "--check")[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        ["--data", "phantom", "--tracker", "none", "--runs", "r", "--loss.lpips.weight=0.02"],
        ["--data", '/data/a "set"', "--runs", "C:\\runs: 1", "--denoiser.dim_mults", "[1, 2]"],
        ["--dataset", "phantom", "--stages.start="],
    ],
)
def test_what_one_command_read_another_reads_again(line):
    def read(words):
        parser = Parser(prog="x")
        add_config_options(parser)
        return overrides_from(*parser.split(words))

    asked = read(line)
    assert read([as_option(text) for text in asked]) == asked
