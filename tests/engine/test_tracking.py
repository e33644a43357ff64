"""Trackers get settings and scores, and nothing that tells of patients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from x2c.engine import tracking


class Tracker:
    name = "wandb"

    def __init__(self):
        self.logged, self.pictures = [], []

    def log(self, values, step):
        self.logged.append((values, step))

    def log_images(self, values, step):
        self.pictures.append(values["samples"].shape)


class Accelerator:
    def __init__(self):
        self.trackers = [Tracker()]

    def init_trackers(self, project, config, init_kwargs):
        self.config = config


SCORES = pd.DataFrame({"patient": ["a", "b"], "label": [0, 1], "psnr": [20.0, 22.0]})


def test_a_picture_is_sent_where_there_is_one():
    accelerator = Accelerator()
    tracking.log_results(accelerator, SCORES, np.zeros((4, 6), np.uint8), 7)
    tracking.log_results(accelerator, SCORES, None, 8)
    (tracker,) = accelerator.trackers
    assert tracker.logged == [({"psnr": 21.0}, 7), ({"psnr": 21.0}, 8)]
    assert tracker.pictures == [(1, 4, 6, 3)]


def test_paths_of_the_machine_are_not_told():
    flat = tracking._flat(
        {"dataset": {"options": {"folder": "/data/st_marys/zztop"}, "name": "prepared"}, "sizes": [1, 2]}
    )
    assert flat == {"dataset.options.folder": tracking.LOCAL_PATH, "dataset.name": "prepared", "sizes": "[1, 2]"}
