"""A request to stop that comes where a library makes something else of it: it is an interrupt, never a failure."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.tracking import WandBTracker

from x2c.core import stopping
from x2c.core.listening import Pruned
from x2c.core.run import RunDirectory
from x2c.core.stopping import Stopped
from x2c.engine import experiment, tracking
from x2c.engine.accelerating import accelerated
from x2c.engine.classification import run as classifying
from x2c.engine.experiment import run
from x2c.engine.identity import run_directory


@pytest.fixture(autouse=True)
def listening(handlers_of_signals):
    stopping.install_signal_handlers()


def swallowed(*_, **__) -> None:
    """What W&B's client does with the signal in the middle of a call to its service."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)
    raise BrokenPipeError("the service is gone")


def raised(*_, **__) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("hit", [swallowed, raised])
def test_while_wandb_starts(hit, smoke_config, monkeypatch):
    monkeypatch.setattr("wandb.init", hit)
    config = smoke_config("l1", "compute.tracker=[wandb]")
    monkeypatch.setattr(experiment, "_load_scorer", lambda *_: SimpleNamespace(stand_ins=()))
    monkeypatch.setattr(experiment, "open_parts", lambda *_: SimpleNamespace(stand_ins=()))
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        run(config)
    status = run_directory(config).status()
    assert (status["state"], status["reason"]) == ("interrupted", None)


class Tracker:
    def __init__(self, name: str, end) -> None:
        self.name, self.tracker, self.end, self.ended = name, object(), end, False

    def finish(self) -> None:
        self.ended = True
        self.end()


@pytest.mark.parametrize("hit", [swallowed, raised, lambda: None])
def test_while_trackers_end_what_was_done_stays_done(hit, smoke_config, monkeypatch):
    config = smoke_config("l1")
    trackers = [WandBTracker("never started"), Tracker("first", hit), Tracker("second", lambda: 1 / 0)]

    def finished(config, directory, accelerator) -> None:
        accelerator.trackers = trackers
        directory.report("done", "done")

    monkeypatch.setattr(experiment, "_run", finished)
    if hit in (swallowed, raised):
        with contextlib.suppress(Stopped):
            run(config)
        assert stopping.requested_signal() == signal.SIGTERM
    else:
        run(config)
        assert trackers[2].ended, "one that fails keeps no other from ending"
    assert trackers[1].ended
    assert run_directory(config).done


def test_a_tracker_that_cannot_be_ended_is_told_of(smoke_config, capsys):
    with accelerated(smoke_config("l1")) as accelerator:
        accelerator.trackers = [Tracker("first", lambda: 1 / 0)]
    assert "tracker first: could not be ended: division by zero" in capsys.readouterr().err


def test_the_text_of_a_stop_is_that_of_its_first_word(smoke_config):
    """A tracker that fails to end does not hide that there is a checkpoint."""

    def train() -> None:
        with accelerated(smoke_config("l1")) as accelerator:
            accelerator.trackers = [Tracker("first", swallowed)]
            raise Stopped(signal.SIGTERM, "after step 3, of which there is a checkpoint")

    with pytest.raises(Stopped, match="of which there is a checkpoint"):
        train()


@pytest.mark.parametrize("hit", [swallowed, raised])
@pytest.mark.parametrize("where", ["check", "_load_scorer", "open_parts"])
def test_in_preparation(where, hit, smoke_config, monkeypatch):
    config = smoke_config("l1")
    monkeypatch.setattr(experiment, "_load_scorer", lambda *_: SimpleNamespace(stand_ins=()))
    monkeypatch.setattr(experiment, where, hit)
    with pytest.raises(Stopped):
        run(config)
    assert run_directory(config).status().get("state") == (None if where == "check" else "interrupted")


@pytest.mark.parametrize("hit", [swallowed, raised])
def test_in_a_classification(hit, smoke_config, monkeypatch):
    monkeypatch.setattr(classifying, "_classify", hit)
    runs = smoke_config("l1").compute.runs
    request = classifying.Request("l1", "smoke", 0, (f"compute.runs={runs}",))
    with pytest.raises(Stopped):
        classifying.classify(request)
    (folder,) = Path(runs, "classifications").iterdir()
    assert RunDirectory(folder).status()["state"] == "interrupted"


@pytest.mark.parametrize(
    ("error", "asked", "state", "reason"),
    [
        (ValueError("shapes differ"), 0, "failed", "ValueError: shapes differ"),
        (ValueError("shapes differ"), 15, "interrupted", None),
        (Pruned("others are better"), 0, "pruned", "Pruned: others are better"),
        (KeyboardInterrupt(), 0, "interrupted", None),
    ],
)
def test_how_a_run_ended_is_told_where_it_stood(error, asked, state, reason, tmp_path):
    directory = RunDirectory(tmp_path)
    directory.report("running", "train xray", 3, 9, seconds_left=5.0)
    stopping._request.number = asked
    directory.report_end(error)
    status = directory.status()
    assert (status["state"], status["reason"]) == (state, reason)
    assert (status["phase"], status["step"], status["steps"]) == ("train xray", 3, 9)


def test_only_trackers_that_have_a_run_are_ended():
    tracker = WandBTracker("x")
    assert not tracking._started(tracker)
    tracker.run = object()
    assert tracking._started(tracker)
