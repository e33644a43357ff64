"""Names that other tools have: the error tells the field that is meant."""

from __future__ import annotations

import pytest

from x2c.core import guesses
from x2c.core.cli import Parser, add_config_options
from x2c.core.errors import UserError
from x2c.core.resolve import parse_override, resolve


def complaint(*words: str) -> str:
    parser = Parser(prog="train.py")
    parser.add_argument("--seed")
    add_config_options(parser)
    with pytest.raises(UserError) as caught:
        parser.split(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--lr=1", "; learning rates are per stage: --stages.xray.learning_rate; options: "),
        ("--learning-rate=1", "; learning rates are per stage: --stages.xray.learning_rate; options: "),
        ("--learning_rate=1", "; learning rates are per stage: --stages.xray.learning_rate; options: "),
        ("--steps=3", "; training is counted in steps, per stage: --stages.xray.steps; options: "),
        ("--epochs", "; training is counted in steps, per stage: --stages.xray.steps; options: "),
        ("--batch-size=4", "; did you mean --training.batch_size? options: "),
        ("--gpus=2", "; of a sweep --compute.processes; of one run `accelerate launch --num_processes N"),
        ("--seeds=0,1", "; did you mean --seed? options: "),
        ("--cpu", "; did you mean --compute.cpu=true? options: "),
        ("--scael=cpu", "; did you mean --scale? options: "),
    ],
)
def test_an_option_of_other_tools_names_the_field(option, hint):
    name = option.partition("=")[0]
    assert complaint(option).startswith(f"train.py: expected a known option; got {name}{hint}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.lr=1",
            "training.lr: expected a known key; got 'lr'; learning rates are per stage: --stages.xray.learning_rate; c",
        ),
        (
            "training.steps=3",
            "training.steps: expected a known key; got 'steps'; training is counted in steps, per stage: --stages.x",
        ),
        (
            "stages.ctpa.lr=1",
            "stages.ctpa.lr: expected a known key; got 'lr'; learning rates are per stage: --stages.ctpa.learning_",
        ),
        (
            "stages.steps=3",
            "stages.steps: not among this variant's stages ['rspect', 'ctpa', 'xray']; training is coun",
        ),
        (
            "batch_size=3",
            "batch_size: expected a known key; got 'batch_size'; did you mean --training.batch_size? choices: autoencod",
        ),
        # Another section's own names come first.
        ("sampler.lr=3", "sampler.lr: expected a known key; got 'lr'; choices: steps"),
    ],
)
def test_a_field_that_stands_elsewhere_is_named(override, message):
    with pytest.raises(UserError) as caught:
        resolve("l1", "smoke", 0, [override])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", sorted(guesses._GUESSES))
def test_every_field_that_is_named_exists(name):
    named = [word.strip("`;?,") for word in guesses.meant(name).split() if word.startswith("--")]
    assert named
    for option in named:
        path, _, value = option.removeprefix("--").partition("=")
        if path in ("runs", "num_processes"):
            continue
        section = resolve("full", "gpu").model_dump()
        if path == "guidance.scale":
            section = resolve("cfg", "gpu").model_dump()
        for part in path.split("."):
            section = section[part]
        if value:
            parse_override(f"{path}={value}")
