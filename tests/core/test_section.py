"""Fields that came after the first runs: at what was done before, a config, a run id and a stage are without them."""

from __future__ import annotations

from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from x2c.core.config import EMA, Config, Embeddings, Section
from x2c.core.registry import LOSS_TERMS
from x2c.core.resolve import read_config, resolve
from x2c.core.run import RunDirectory, run_id
from x2c.engine.identity import planned_stages

PARTS = (Config, EMA, *(LOSS_TERMS.options(term) for term in ("adv", "cls")))
LATER = {"embeddings.scaling": "none", "training.ema.every": 3, "training.ema.after": 5, "loss.adv.betas": "[0.9, 0.99]", "loss.cls.pos_weight": 2.0}  # fmt: skip


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section) and kind not in found:
                found |= sections(kind)
    return found


def written(config: Config, folder) -> dict:
    RunDirectory(folder).write_config(config)
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def at(tree, path: str):
    for key in path.split("."):
        tree = (tree or {}).get(key)
    return tree


def test_later_fields_have_a_default_and_are_not_written_there():
    for part in {*sections(Config), *PARTS}:
        for name in getattr(part, "later", ()):
            assert not part.model_fields[name].is_required(), (part, name)
    assert EMA(decay=0.9).model_dump() == {"decay": 0.9}
    assert EMA(decay=0.9, every=2).model_dump() == {"decay": 0.9, "every": 2}
    assert Embeddings().model_dump() == {"scaling": "standard"}


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
def test_small_scales_are_written_as_they_were_before_there_were_later_fields(scale, tmp_path):
    config = resolve("full", scale)
    content = written(config, tmp_path)
    assert [path for path in LATER if at(content, path) is not None] == []
    assert "weight" in content["loss"]["adv"] and content["training"]["ema"] == {"decay": 0.995}


@pytest.mark.parametrize(("path", "value"), LATER.items())
def test_a_later_field_at_another_value_is_another_run_with_other_stages(path, value, tmp_path):
    config, changed = resolve("full", "smoke"), resolve("full", "smoke", 0, [f"{path}={value}"])
    assert run_id(config, "data") != run_id(changed, "data")
    assert planned_stages(config)[-1].key != planned_stages(changed)[-1].key
    content = written(changed, tmp_path)
    assert at(content, path) == yaml.safe_load(str(value))
    assert run_id(read_config(tmp_path / "config.yaml"), "data") == run_id(changed, "data")


def test_a_config_of_before_and_one_that_spells_the_default_out_are_one_run(tmp_path):
    config = resolve("full", "smoke")
    before = written(config, tmp_path)
    spelt = {**before, "embeddings": {"scaling": "standard"}}
    spelt["training"] = {**before["training"], "ema": {"decay": 0.995, "every": 1, "after": 0}}
    (tmp_path / "spelt.yaml").write_text(yaml.safe_dump(spelt), encoding="utf-8")
    ids = {run_id(one, "data") for one in (config, *(read_config(tmp_path / f"{n}.yaml") for n in ("config", "spelt")))}
    assert len(ids) == 1


def test_embeddings_are_no_part_of_a_stage_without_condition():
    def keys(*overrides: str) -> dict[str, str]:
        return {planned.name: planned.key for planned in planned_stages(resolve("l1", "smoke", 0, overrides))}

    before, after = keys(), keys("embeddings.scaling=none")
    assert [name for name in before if before[name] != after[name]] == ["xray"]
