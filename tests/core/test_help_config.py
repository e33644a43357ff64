"""`--help-config`: every field is there, with documentation and a value that the command line takes back."""

import re
import subprocess
import sys

import pytest

from x2c.core.config import Slot
from x2c.core.errors import UserError
from x2c.core.help_config import config_help, fields
from x2c.core.registry import LOSS_TERMS, SLOTS
from x2c.core.resolve import resolve, variants


def leaves(values, path=""):
    """Dotted paths of all values of a dumped configuration."""
    for name, value in values.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from leaves(value, here)
        else:
            yield here.removesuffix(".name").removesuffix(".order")


@pytest.mark.parametrize("variant", variants())
def test_every_field_of_a_variant_is_told(variant):
    config = resolve(variant, "cpu")
    dumped = config.model_dump(mode="json", exclude={"variant", "scale", "seed", "table2"})
    told = {line.path for line in fields(config) if not line.choice}
    # A data set that the variant has not is told by its choices alone.
    assert set(leaves({key: value for key, value in dumped.items() if value is not None})) <= told


def test_every_option_of_every_choice_is_told():
    told = {line.path for line in fields(resolve("full", "cpu"))}
    for slot, registry in SLOTS.items():
        for name in registry.names():
            for option in registry.options(name).model_fields:
                assert any(f"{path}.".startswith(f"{slot}.{option}.") for path in told), f"{slot} {name} {option}"
    for name in LOSS_TERMS.names():
        assert {f"loss.{name}.{option}" for option in LOSS_TERMS.options(name).model_fields} <= told


@pytest.mark.parametrize("variant", ["full", "lidc_lora", "vqgan_3d", "cross_attention"])
def test_every_field_has_documentation_that_is_a_statement(variant):
    for line in fields(resolve(variant, "cpu")):
        assert line.about.endswith("."), line
        assert not re.match(r"(What|Of|How|Which|Where) ", line.about), line
        assert line.kind and "value" not in line.kind, line


def test_its_values_are_those_of_the_configuration():
    config = resolve("l1_lpips", "smoke", 0, ["loss.lpips.weight=0.25", "stages.xray.steps=7"])
    asked = [f"{line.path}={line.value}" for line in fields(config) if not line.choice and line.path != "finetuning"]
    asked = [text for text in asked if text.partition("=")[0] not in ("loss", "stages") and "stages.start" not in text]
    slots = {name for name, value in config if isinstance(value, Slot)}
    again = resolve("l1_lpips", "smoke", 0, [text for text in asked if text.partition("=")[0] not in slots])
    assert again == config


def test_a_section_alone_and_an_unknown_one():
    config = resolve("full", "cpu")
    shown = config_help(config, "loss.lpips")
    assert "loss.lpips.weight = 0.01" in shown and "adv" not in shown
    with pytest.raises(
        UserError,
        match=r"^--help-config: expected a known field; got 'trainin'; did you mean 'training'\? choices: auto",
    ):
        config_help(config, "trainin")
    with pytest.raises(
        UserError, match=r"expected a known field; got 'training.batch'; did you mean 'training.batch_size'\?"
    ):
        config_help(config, "training.batch")


def test_what_stages_have_in_common_is_told_once():
    assert config_help(resolve("full", "cpu"), "stages").count("Number of optimizer steps.") == 1


def test_it_is_as_typed():
    line = [sys.executable, "x2c/train.py", "--variant", "l1", "--help-config", "training", "--training.batch_size=3"]
    told = subprocess.run(line, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "training.batch_size = 3  [whole number more than 0]" in told.stdout
