"""verify-resume: what is drawn and compared, that it proves what it should, and that it would notice a difference."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forked_sweep import Forked
from safetensors.torch import save_file
from test_queue import processes, wait_for

from x2c.core import stopping
from x2c.core.errors import UserError
from x2c.core.files import file_digest
from x2c.core.machine import is_alive
from x2c.core.script import PROJECT
from x2c.sweep.verify import command
from x2c.sweep.verify.compare import compare
from x2c.sweep.verify.killed_run import PHASES, Moment, Watch, kill_all


def moments() -> dict[Moment, float]:
    """A short run's."""
    made = [Moment("", 0, 0, "write", "l1-smoke-s0-0123456789ab/.config.yaml.tmp")]
    for step in range(1, 5):
        made.append(Moment("xray", step - 1, step - 1, "write", "stages/xray-s/metrics.jsonl"))
        made.append(Moment("xray", step, step, "put in place", f"stages/xray-s/checkpoints/.step-{step}.tmp"))
        made.append(Moment("xray", step, step, "remove", f"stages/xray-s/checkpoints/step-{step - 1}"))
    made.append(Moment("xray", 4, 4, "put in place", "stages/xray-s/.status.json.tmp"))
    made.append(Moment("xray", 4, 4, "make", "l1-smoke-s0-0123456789ab/batches"))
    made.append(Moment("xray", 4, 4, "put in place", "l1-smoke-s0-0123456789ab/.scores.parquet.tmp"))
    return dict.fromkeys(made, 0.05)


def test_moments_are_drawn_from_every_phase_in_order_and_again_from_the_same_seed():
    drawn = command.draw(moments(), len(PHASES), seed=3)
    assert {kill.moment.phase for kill in drawn} == set(PHASES)
    order = list(moments())
    assert [kill.moment for kill in drawn] == sorted((kill.moment for kill in drawn), key=order.index)
    assert drawn == command.draw(moments(), len(PHASES), seed=3)
    assert drawn != command.draw(moments(), len(PHASES), seed=4)
    assert [kill.moment.phase for kill in command.draw(moments(), 2, seed=0)] in (
        ["step", "checkpoint"],
        ["checkpoint", "step"],
    )
    assert len(command.draw(moments(), 999, seed=0)) == len(moments())
    assert all(0 < kill.delay_seconds < 0.05 for kill in drawn)


def test_a_watch_names_what_changes_and_not_what_a_rerun_would_not_meet(tmp_path):
    runs = tmp_path / "runs"
    stage = runs / "stages" / "xray-smoke-s0-0123456789ab"
    code = (
        "import sys, os, json, shutil; from pathlib import Path; from x2c.sweep.verify.killed_run import Watch\n"
        "from x2c.core.run import RunDirectory\n"
        f"runs, stage = Path({str(runs)!r}), Path({str(stage)!r})\n"
        "watch = Watch(runs); sys.addaudithook(watch)\n"
        "run = RunDirectory(stage); (stage / 'checkpoints').mkdir(parents=True)\n"
        "run.report('running', 'train', 1, 2); run.log({'step': 1}); run.log({'step': 2})\n"
        "(stage / 'checkpoints' / 'x').write_text('x'); (stage / 'checkpoints' / 'x').read_text()\n"
        "shutil.rmtree(stage / 'checkpoints'); run.report('done', 'done')\n"
        "print(json.dumps([list(entry['moment'].values())[1:] for entry in watch.trace()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    inside = f"stages/{stage.name}"
    assert json.loads(done.stdout) == [
        [0, 0, "make", "stages"],
        [0, 0, "make", inside],
        [0, 0, "make", f"{inside}/checkpoints"],
        [0, 0, "write", f"{inside}/metrics.jsonl"],
        [1, 1, "write", f"{inside}/metrics.jsonl"],
        [2, 2, "write", f"{inside}/checkpoints/x"],
        [2, 2, "remove", f"{inside}/checkpoints/x"],
        [2, 2, "remove", f"{inside}/checkpoints"],
        [2, 2, "put in place", f"{inside}/.status.json.tmp"],
    ]


def test_a_target_is_the_moment_itself(tmp_path, monkeypatch):
    killed: list[float] = []
    monkeypatch.setattr("x2c.sweep.verify.killed_run.kill_all", killed.append)
    target = Moment("", 0, 0, "write", "a.json")
    watch = Watch(tmp_path, target, 0.5)
    for name in ("b.json", "a.json", "a.json"):
        watch("open", (str(tmp_path / name), "w", 0o1101))
    watch("open", (str(tmp_path / "a.json"), "r", 0))
    assert killed == [0.5]


@pytest.fixture
def two_runs(tmp_path):
    """Two folders with the same run."""
    run = tmp_path / "calm" / "l1-smoke-s0-0123456789ab"
    run.mkdir(parents=True)
    save_file({"a": torch.ones(3), "b": torch.zeros(2)}, run / "denoiser.safetensors")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    (run / "set_scores.json").write_text("{}")
    (run / "status.json").write_text("1")
    shutil.copytree(tmp_path / "calm", tmp_path / "killed")
    return tmp_path / "calm", tmp_path / "killed", tmp_path / "killed" / run.name


def differences(calm: Path, killed: Path) -> list[str]:
    return [text for item in compare(calm, killed) for text in item.differences]


def test_equal_runs_compare_as_equal_whatever_their_status_says(two_runs):
    calm, killed, run = two_runs
    (run / "status.json").write_text("2")
    (run / ".status.json.77.tmp").write_text("3")
    assert differences(calm, killed) == []
    assert sum(item.files for item in compare(calm, killed)[:-1]) == 3


def test_every_difference_is_named(two_runs):
    calm, killed, run = two_runs
    save_file({"a": torch.ones(3), "b": torch.tensor([0.0, 2**-10])}, run / "denoiser.safetensors")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    (run / ".scores.parquet.77.tmp").write_text("")
    (run / "set_scores.json").unlink()
    said = "\n".join(differences(calm, killed))
    for text in (
        "denoiser.safetensors: 1 of 2 arrays differ, by 9.8e-04 at most",
        "metrics.jsonl: from step 2 on",
        "set_scores.json: missing",
        ".scores.parquet.77.tmp: left behind",
    ):
        assert text in said
    (run / "denoiser.safetensors").write_bytes(b"x")
    assert "denoiser.safetensors: cannot be read" in "\n".join(differences(calm, killed))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "VARIANT: expected the name of a variant"),
        (["l1_avd"], "expected a known variant; got 'l1_avd'; did you mean 'l1_adv'?"),
        (["l1", "--kills", "0"], "--kills: expected a whole number, 1 or more; got '0'"),
        (["l1", "--seeds", "0"], "expected a known option; got --seeds; did you mean --seed?"),
    ],
)
def test_a_wrong_line_is_one_clear_line(line, message):
    with pytest.raises(UserError) as error:
        command.main(line)
    assert message in str(error.value)


def test_the_processes_are_told_the_data_set_by_its_name(monkeypatch, tmp_path):
    jobs: list[command.Job] = []
    monkeypatch.setattr(command, "install_signal_handlers", lambda: None)
    monkeypatch.setattr(command, "verify", lambda title, job, *rest: jobs.append(job) or True)
    assert command.main(["l1", "--data", "phantom", "--folder", str(tmp_path)]) == 0
    assert "--data=phantom" in jobs[0].arguments


@pytest.fixture(scope="module")
def calm_runs(tmp_path_factory):
    """The uninterrupted runs, by their arguments: each is trained once."""
    return tmp_path_factory.mktemp("calm"), {}


@pytest.fixture
def verified(smoke_cache, calm_runs, tmp_path, capsys, monkeypatch):
    """Run verify-resume; returns its exit code and what it printed. The first run imports, the others are forks."""
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    start = command.Job.start

    def fork(self, runs, log, *options):
        if "--trace" in options:
            return calm(self, runs, log, Path(options[1]))
        module = [sys.executable, "-m", "x2c.sweep.verify.killed_run"]
        line = [*module, str(runs), *options, "--", *self.arguments, f"--runs={runs}"]
        with log.open("ab") as stream:
            return Forked(line, stdout=stream, stderr=stream)

    def calm(self, runs, log, trace):
        folder, made = calm_runs
        if self.arguments not in made:
            kept = folder / str(len(made))
            kept.mkdir()
            assert start(self, kept / "runs", log, "--trace", str(kept / "trace.json")).wait() == 0, log.read_text()
            made[self.arguments] = kept
        shutil.copytree(made[self.arguments] / "runs", runs)
        shutil.copy(made[self.arguments] / "trace.json", trace)
        return subprocess.Popen(["true"])

    def call(*line: str) -> tuple[int, str]:
        code = command.main([*line, f"--compute.cache={smoke_cache}", "--folder", str(tmp_path / "work")])
        return code, capsys.readouterr().out

    monkeypatch.setattr(command.Job, "start", fork)
    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_variant_with_a_discriminator_resumes_exactly(verified, tmp_path):
    code, out = verified("l1_adv", "--kills", "2")
    assert (code, "killed 2 times and resumed: equal, bit for bit" in out) == (0, True), out
    for what in ("weights of stage xray", "losses of run", "scores.parquet of run", "set_scores.json of run"):
        assert what in out
    assert list((tmp_path / "work").iterdir()) == [], "a proof that holds leaves nothing"


def test_a_kill_ends_all_processes_of_a_run():
    """What two processes resume from then is a test of the engine."""
    here, there = processes.Pipe()
    launcher = processes.Process(target=launch, args=(there,))
    launcher.start()
    assert here.poll(30)
    idle = here.recv()
    launcher.join(30)
    assert launcher.exitcode == -signal.SIGKILL
    wait_for(lambda: not is_alive(idle, ""), 30)


def launch(answer) -> None:
    os.environ["WORLD_SIZE"] = "2"
    idle = processes.Process(target=time.sleep, args=(600,))
    idle.start()
    answer.send(idle.pid)
    processes.Process(target=kill_all, args=(0.0,)).start()
    idle.join()


@pytest.mark.slow
def test_a_resume_that_forgets_the_optimizer_is_noticed(verified, tmp_path, monkeypatch):
    sabotaged: list[Path] = []
    start = command.Job.start

    def late(moments, count, seed):
        (*_, last) = (moment for moment in moments if (moment.stage, moment.phase) == ("xray", "step"))
        return [command.Kill(last, 0.0)]

    def forgetful(self, runs, log, *options):
        for checkpoint in runs.glob("stages/*/checkpoints/step-*"):
            optimizer = torch.load(checkpoint / "optimizer.bin")
            for state in optimizer["state"].values():
                state["exp_avg"].zero_()
            torch.save(optimizer, checkpoint / "optimizer.bin")
            digests = json.loads((checkpoint / "digests.json").read_text())
            digests["optimizer.bin"] = file_digest(checkpoint / "optimizer.bin")
            (checkpoint / "digests.json").write_text(json.dumps(digests))
            sabotaged.append(checkpoint)
        return start(self, runs, log, *options)

    monkeypatch.setattr(command, "draw", late)
    monkeypatch.setattr(command.Job, "start", forgetful)
    code, out = verified("l1_adv", "--kills", "1")
    assert sabotaged
    assert (code, "resumed: DIFFERS" in out) == (1, True), out
    assert "weights of stage xray" in out and "arrays differ, by" in " ".join(out.split())
    assert "scores.parquet" in out
    (kept,) = (tmp_path / "work").iterdir()
    assert (kept / "killed").exists() and (kept / "log.txt").exists()
