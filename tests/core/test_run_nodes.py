"""Machines that do not see each other's locks train a stage once, though they are killed and put to sleep at random."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain import link

from x2c.core.file_lease import newest

HERE = Path(__file__).parent
STEPS, STEP_SECONDS = 150, 0.05
TROUBLES = 14


class Node:
    """A machine with one process that goes on with the stage, and is started anew when it was killed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.asleep = False
        self.start()

    def start(self) -> None:
        line = [
            sys.executable,
            HERE / "node.py",
            self.name,
            HERE / "chain.py",
            self.folder / "stage",
            STEPS,
            STEP_SECONDS,
        ]
        self.process = subprocess.Popen(
            [str(word) for word in line],
            env={**os.environ, "X2C_TEST_LOCKS": str(self.folder / "locks")},
            stderr=subprocess.PIPE,
            text=True,
        )

    def has(self, run: Path) -> bool:
        entry = newest(run / ".lease")
        return entry is not None and entry.holder is not None and entry.holder.pid == self.process.pid

    def disturb(self, chance: random.Random) -> None:
        if self.process.poll() is not None:
            return
        if self.asleep:
            self.process.send_signal(signal.SIGCONT)
            self.asleep = False
        elif chance.random() < 0.3:
            self.process.kill()
            self.process.communicate()
            self.start()
        else:
            self.process.send_signal(signal.SIGSTOP)
            self.asleep = True

    def finish(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        said = self.process.communicate(timeout=120)[1]
        assert self.process.returncode == 0, said


@pytest.mark.slow
def test_a_stage_is_trained_once_whatever_happens_to_its_machines(tmp_path):
    chance = random.Random(0)
    nodes = [Node(name, tmp_path) for name in ("one", "two", "three")]
    run = tmp_path / "stage"
    for _ in range(TROUBLES):
        time.sleep(chance.uniform(0.2, 1.2))
        of_holder = [node for node in nodes if node.has(run)]
        chance.choice(of_holder or nodes).disturb(chance)
    for node in nodes:
        node.finish()
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    entry = newest(run / ".lease")
    assert entry is not None and entry.number > 2, "nothing happened to those that trained it"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    chain = ["start"]
    for step in range(1, STEPS + 1):
        chain.append(link(chain[-1], step))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in lines] == chain[1:]
    assert (run / "weights").read_text() == chain[-1]
    for checkpoint in (run / "checkpoints").iterdir():
        assert (checkpoint / "link").read_text() == chain[int(checkpoint.name.removeprefix("step-"))]
