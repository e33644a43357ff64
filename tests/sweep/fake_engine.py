"""Stands in for x2c.engine.experiment: cells that take milliseconds and misbehave on request.

`<runs>/behave.json` maps a variant to `raise`, `die`, `slow` or `wait` (for a file `<runs>/go`, or
until it is told otherwise); `<runs>/ran.txt` has a line for every start.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path


def prepare_patients(configs):
    pass


def prepare(config):
    if behaviour(config) == "unprepared":
        raise RuntimeError("no data")


def run(config):
    import pandas as pd

    from x2c.core.files import replacing
    from x2c.engine.identity import planned_stages, run_directory

    run = run_directory(config)
    if run.done:
        return run
    with run.owned():
        with (run.path.parent / "ran.txt").open("a") as log:
            log.write(f"{run.path.name}\n")
        print(f"{run.path.name}: on GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)
        run.write_config(config)
        run.report("running", "train", 3, 10)
        for planned in planned_stages(config):
            planned.directory.report("done", "done")
        how = behaviour(config)
        if how == "raise":
            raise ValueError("the loss\nis not finite")
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "slow":
            time.sleep(30)
        while behaviour(config) == "wait" and not (run.path.parent / "go").exists():
            time.sleep(0.05)
        table = pd.DataFrame({"patient": ["a", "b"], "label": [0, 1], "psnr": [10.0, 20.0 + config.seed]})
        with replacing(run.scores) as path:
            table.to_parquet(path)
        run.report("done", "done", 10, 10)
    return run


def behaviour(config):
    path = Path(config.compute.runs) / "behave.json"
    return json.loads(path.read_text()).get(config.variant) if path.exists() else None
