"""All of a page from one command: which steps, in which order, and what becomes of them; nothing is trained."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from analysis import results
from x2c.core import stopping
from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.files import write_json
from x2c.data.folds import fold_names
from x2c.engine.costs import EvaluationCost, StageCost
from x2c.engine.identity import planned_stages
from x2c.sweep import reproduce, steps
from x2c.sweep.__main__ import main
from x2c.sweep.cost import _path, device_name
from x2c.sweep.options import parse
from x2c.sweep.steps import ClassifyStep, SweepStep, Where, seconds_left, steps_of

STAGE = StageCost(2.0, 10.0, 5.0, None, 3_000, 1_000)
EVALUATION = EvaluationCost(7.0, 4.0, None, patients=4, volume_bytes=100)
FITTED, WORKERS = 100.0, 2
WORK = 'echo "$NAME" >> ran; touch "done/$NAME"'


@dataclass
class Fake:
    """A step that is done once a file is there, and whose command is a line of shell."""

    where: Where
    title: str
    script: str = WORK
    cells = ()

    @property
    def name(self):
        return f"{self.where.data}-{self.title}"

    def command(self):
        return ["/bin/sh", "-c", f"NAME={self.name}; {self.script}"]

    def done(self):
        return int(Path("done", self.name).exists()), 1


@pytest.fixture
def faked(tmp_path, monkeypatch):
    """Let `reproduce` run shell commands in a folder of its own; the returned scripts are of steps that do otherwise."""
    scripts = {}
    monkeypatch.chdir(tmp_path)
    Path("done").mkdir()
    titles = ("a", "b", "c")
    monkeypatch.setattr(reproduce, "steps_of", lambda where: [Fake(where, t, scripts.get(t, WORK)) for t in titles])
    monkeypatch.setattr(reproduce, "seconds_left", lambda some: [60.0 * (step.done()[0] == 0) for step in some])
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield scripts
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def pages(monkeypatch):
    """The command lines of the pages that were written."""
    written = []
    monkeypatch.setattr(results, "main", lambda argv: written.append(argv) or 0)
    return written


def ran():
    return Path("ran").read_text().split() if Path("ran").exists() else []


def test_steps_are_run_in_order_on_phantom_and_atlas(faked, pages, capsys):
    faked["a"] = f"echo a table; {WORK}"
    assert reproduce.main(["--scale", "smoke", "--runs", "r"]) == 0
    assert ran() == [f"{data}-{title}" for data in ("phantom", "atlas") for title in "abc"]
    out = capsys.readouterr().out
    assert "6 of 6 steps done" in out and "1 of 6 · phantom: a · about 6:00 left of all" in out
    # Tables go to a file: the page shows them.
    assert "a table" not in [line.strip() for line in out.splitlines()]
    assert Path("reports/atlas/logs/a.log").read_text() == "a table\n"
    assert reproduce.main(["--scale", "smoke", "--runs", "r"]) == 0 and len(ran()) == 6


def test_what_is_done_is_not_run(faked, pages, capsys):
    Path("done/phantom-b").touch()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-c"]
    assert "2 of 3 · " not in capsys.readouterr().out


def test_a_plan_runs_nothing(faked, pages, capsys):
    Path("done/phantom-b").touch()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke", "--plan"]) == 0
    assert ran() == pages == [] and not Path("reports").exists()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["│", "phantom:", "b", "│", "1", "of", "1", "│", "│"] in lines
    assert ["│", "all", "│", "│", "2:00", "│"] in lines


@pytest.mark.parametrize("script", ["exit 1", "kill -KILL $$", "true"])
def test_a_failing_step_does_not_stop_the_others_and_is_told_of(faked, pages, capsys, script):
    faked["b"] = script
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1
    assert ran() == ["phantom-a", "phantom-c"] and len(pages) == 1
    *_, failed, summary, hint = capsys.readouterr().out.splitlines()
    assert failed == "not finished: phantom: b" and summary.startswith("2 of 3 steps done, in ")
    assert hint == "the same command goes on with what is not done"
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-c", "phantom-b"]


def test_without_a_page_the_failed_steps_are_told_of_all_the_same(faked, monkeypatch, capsys):
    monkeypatch.setattr(results, "main", lambda argv: 1)
    faked |= dict.fromkeys("abc", "exit 1")
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1
    assert "not finished: phantom: a" in capsys.readouterr().out
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 1


@pytest.mark.parametrize(
    ("end", "code"), [("exit 130", 130), ("exit 75", 75), ("kill -INT $$", 130), ("kill -TERM $$", 75)]
)
def test_a_step_that_was_asked_to_stop_stops_all(faked, pages, end, code):
    faked["b"] = end
    with pytest.raises(KeyboardInterrupt) as stop:
        reproduce.main(["--data", "phantom", "--scale", "smoke"])
    assert stopping.exit_code(stop.value) == code
    assert ran() == ["phantom-a"] and pages == []
    faked.clear()
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-b", "phantom-c"]


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 75), ("USR1", 75)])
def test_being_asked_to_stop_goes_on_to_the_step_and_waits_for_it(faked, pages, monkeypatch, capsys, name, code):
    # The step asks its parent to stop, and writes a checkpoint when it is asked itself.
    saves = "sleep 0.2; touch saved; exit 75"
    faked["b"] = f"trap '{saves}' TERM; kill -{name} $PPID; for i in $(seq 200); do sleep 0.02; done"
    monkeypatch.setattr(sys, "argv", ["x2c.sweep", "reproduce", "--data", "phantom", "--scale", "smoke"])
    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    assert end.value.code == code
    assert Path("saved").exists() and ran() == ["phantom-a"] and pages == []
    err = capsys.readouterr().err
    assert err == f"stopped by SIG{name}; rerun the same command to go on where it stopped\n"
    faked["b"] = f"test -e saved && {{ {WORK}; }}"
    assert reproduce.main(["--data", "phantom", "--scale", "smoke"]) == 0
    assert ran() == ["phantom-a", "phantom-b", "phantom-c"]


def test_a_request_before_the_step_can_be_told_waits_until_it_can(faked, pages, monkeypatch):
    started = []

    class Popen(reproduce.subprocess.Popen):
        def __init__(self, *args, **kwargs):
            signal.raise_signal(signal.SIGTERM)
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(reproduce.subprocess, "Popen", Popen)
    faked["a"] = "sleep 30"
    with pytest.raises(stopping.Stopped):
        reproduce.main(["--data", "phantom", "--scale", "smoke"])
    (process,) = started
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("scale", "folder"), [("smoke", "made"), ("cpu", ".")])
def test_the_page_of_scale_smoke_goes_to_the_reports(faked, pages, scale, folder):
    line = ["--data", "phantom", "--scale", scale, "--out", "made", "--runs", "r"]
    assert reproduce.main(line) == 0
    assert pages == [["--runs", "r", "--scale", scale, "--out", folder]]
    assert Path("made/phantom/logs/c.log").exists()


def test_what_was_asked_reaches_every_step(faked, pages, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "steps_of", lambda where: asked.append(where) or [])
    line = ["--tracker", "none", "--training.batch_size=3", "--stages.xray.steps", "5", "--plan"]
    assert reproduce.main(line) == 0
    texts = ("training.batch_size=3", "stages.xray.steps=5", "compute.tracker=[]")
    assert asked == [Where("cpu", data, "runs", f"reports/{data}", texts) for data in ("phantom", "atlas")]


def test_steps_are_commands_that_can_be_typed():
    where = Where("smoke", "atlas", "r", "reports/atlas", ("training.batch_size=3", "compute.tracker=[]"))
    *sweeps, classify = steps_of(where)
    assert [step.title for step in sweeps] == [
        "samples", "sampler_steps", "training_steps", "lidc", "ablation", "losses, seeds 0,1,2",
    ]  # fmt: skip
    for step in sweeps:
        python, *module = step.command()
        assert python == sys.executable and module[:3] == ["-m", "x2c.sweep", "run"]
        _, options, overrides = parse(module[2:])
        assert (options.name, options.scale, options.out) == (step.name, "smoke", Path("reports/atlas"))
        assert options.seeds == ((0, 1, 2) if step.name == "losses" else None)
        assert overrides == ['data="atlas"', "training.batch_size=3", "compute.tracker=[]", 'compute.runs="r"']
    # Nothing of a classification is tracked.
    given = "--variant full --scale smoke --data atlas --runs r --training.batch_size=3"
    assert classify.command() == [sys.executable, "-m", "x2c.classify", *given.split()]


@pytest.fixture
def planned(tmp_path, sweep_file, monkeypatch):
    """Steps of made-up sweeps in a folder of their own, with made-up measurements of all their cells."""
    places = (f"compute.cache={tmp_path / 'cache'}", f"compute.workers={WORKERS}")
    where = Where("smoke", "phantom", str(tmp_path / "runs"), "reports", places)
    monkeypatch.setattr(steps, "seconds_to_fit", lambda request: FITTED)

    def make(*names, classified=None, **sweeps):
        for name, variants in sweeps.items():
            sweep_file(name, parameters={"variant": {"values": variants}})
        made = [SweepStep(where, *name.split()) for name in names]
        made += [ClassifyStep(where, classified)] if classified else []
        for cell in (cell for step in made for cell in step.cells):
            device = device_name(cell.config)
            write_json(_path(cell.config, device, None), asdict(EVALUATION))
            for stage in cell.stages:
                write_json(_path(cell.config, device, stage), asdict(STAGE))
        return made

    return make


def of_stages(config, stages):
    each = (config.training.validate_every, config.training.checkpoint_every)
    times = [(s.stage.steps, *(-(-s.stage.steps // every) for every in each)) for s in stages]
    return sum(2.0 * trained + 10.0 * validated + 5.0 * saved for trained, validated, saved in times)


def of_evaluation(config):
    return 7.0 + 4.0 * (1 + config.evaluation.samples) * EVALUATION.patients


def test_what_steps_share_is_counted_once(planned):
    made = planned("first", "second 0,1", first=["l1", "l1_adv"], second=["l1", "l1_cls"])
    l1, adv = made[0].cells
    shared, again, cls, cls_again = made[1].cells
    assert shared.run_id == l1.run_id and len({key.key for key in (*l1.stages, *adv.stages)}) == 4
    left = seconds_left(made)
    whole = {cell.run_id: of_stages(cell.config, cell.stages) + of_evaluation(cell.config) for cell in made[1].cells}
    alone = of_stages(adv.config, adv.stages[-1:]) + of_evaluation(adv.config)
    assert left[0] == (whole[l1.run_id] + alone) / WORKERS
    # Another seed pretrains on its own; l1_cls shares what l1 of its seed has.
    last = [of_stages(cell.config, cell.stages[-1:]) + of_evaluation(cell.config) for cell in (cls, cls_again)]
    assert left[1] == (whole[again.run_id] + sum(last)) / WORKERS
    l1.run.report("done", "done")
    for stage in l1.stages:
        stage.directory.report("done", "done")
    assert (made[0].done(), made[1].done()) == ((1, 2), (1, 4))
    assert seconds_left(made) == [alone / WORKERS, left[1]]


def test_generators_of_folds_are_counted_with_the_classification(planned):
    made = planned("first", classified="full", first=["full"])
    sweep, classify = made
    (cell,) = sweep.cells
    folds = fold_names(classify.request.settings().folds)
    assert [generator.title for generator in classify.cells] == [f"fold {fold}" for fold in folds]
    stages = {stage.key: stage for fold in folds for stage in planned_stages(classify.request.config(fold))}
    new = [stage for key, stage in stages.items() if key not in {stage.key for stage in cell.stages}]
    # What is trained on other patients than the folds' is trained once, for the sweep.
    assert 0 < len(new) < len(folds) * len(cell.stages)
    of_sweep, of_classification = seconds_left(made)
    assert of_sweep == (of_stages(cell.config, cell.stages) + of_evaluation(cell.config)) / WORKERS
    generators = of_stages(cell.config, new) + len(folds) * of_evaluation(cell.config)
    assert of_classification == pytest.approx((generators + FITTED) / WORKERS)


def test_a_finished_classification_has_nothing_left(planned, monkeypatch):
    (step,) = planned(classified="full")
    done, total = step.done()
    assert (done, total) == (0, 3 * len(folds_of(step)) + 1)
    first = steps.fold_file(steps.directory_of(step.request), "ctpa", 1)
    first.parent.mkdir(parents=True)
    first.touch()
    assert step.done() == (1, total)
    steps.directory_of(step.request).report("done", "done")
    assert ClassifyStep(step.where, "full").cells == ()


def folds_of(step):
    return fold_names(step.request.settings().folds)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--data pahntom",
            "dataset: unknown dataset 'pahntom'; did you mean 'phantom'? choices: atlas, phantom, prepared",
        ),
        ("--data phantom,atals", "dataset: unknown dataset 'atals'; did you mean 'atlas'?"),
        ("--scale smoek", "did you mean 'smoke'?"),
        ("--trainin.batch_size=3", "did you mean 'training'?"),
        ("--plam", "unknown option --plam; did you mean --plan?"),
        ("phantom", "unexpected argument 'phantom'"),
    ],
)
def test_a_wrong_name_is_one_line_before_anything_is_measured(monkeypatch, capsys, tmp_path, line, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "listen", lambda: None)
    monkeypatch.setattr(reproduce, "seconds_left", lambda some: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["x2c.sweep", "reproduce", *line.split()])
    with pytest.raises(SystemExit) as end:
        exit_on_user_error(main)
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and message in err


def test_a_sweep_without_a_file_is_one_line(monkeypatch):
    monkeypatch.setattr(reproduce, "listen", lambda: None)
    monkeypatch.setattr(steps, "SWEEPS", (*steps.SWEEPS[:1], ("lossses", None)))
    with pytest.raises(UserError, match=r"^NAME: unknown sweep 'lossses'; did you mean 'losses'\? choices: [^\n]*$"):
        reproduce.main(["--data", "phantom", "--scale", "smoke", "--plan"])
