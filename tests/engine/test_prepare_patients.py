"""Virtual patients that several experiments share are made once, for all their sample sizes together."""

from __future__ import annotations

import pytest
import torch

from x2c.data.virtual import VirtualCohort
from x2c.engine.experiment import prepare_patients
from x2c.engine.parts import Parts


def test_all_that_the_experiments_open_is_made_in_one_go_for_each_cohort(smoke_config, tmp_path, monkeypatch):
    few = [f"{role}.{split}=2" for role in ("dataset", "pretraining") for split in ("train", "val", "test")]
    configs = [smoke_config(name, f"compute.cache={tmp_path / 'cache'}", *few) for name in ("l1", "res_128", "full")]
    made = []

    def make(self, sizes, cache, workers, _of=VirtualCohort._make):
        made.append((self.options.cohort, len(sizes)))
        _of(self, sizes, cache, 1)

    monkeypatch.setattr(VirtualCohort, "_make", make)
    prepare_patients(configs)
    # The paper's patients and those of pretraining, at two sample sizes.
    assert sorted(made) == [(0, 2), (1, 2)]
    monkeypatch.setattr(VirtualCohort, "_make", lambda *_: pytest.fail("made again"))
    for config in configs:
        parts = Parts(config, torch.device("cpu"))
        for stage in config.stages.each.values():
            assert len(parts.data(stage.data).cohort) > 0
