"""A cell that several processes train together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_queue import wait_for

from x2c.core import fence, listening, machine
from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.core.script import PROJECT
from x2c.engine.belonging import NotOurs, belonging
from x2c.sweep.plan.cells import make_plan
from x2c.sweep.plan.devices import Device, check_processes, environment, worker_count
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.retries import passing
from x2c.sweep.queue.state import claimed, snapshot
from x2c.sweep.run import distributed
from x2c.sweep.run import processes as launch
from x2c.sweep.run.worker import drain
from x2c.train_command import main

GPUS = [Device(key) for key in "abcd"]


def plan_of(tmp_path, cache="cache", *more, variant="l1_adv"):
    places = [f"compute.runs={tmp_path / 'runs'}", f"compute.cache={cache}", "compute.tracker=[]"]
    return make_plan("s", "smoke", (0,), ['data="phantom"', *places, "compute.processes=2", *more])


@pytest.fixture
def cell(sweep_file, tmp_path):
    sweep_file(parameters={"variant": {"values": ["l1_adv"]}, "loss.adv.weight": {"value": 0.002}})
    return plan_of(tmp_path).cells[0]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Put a script of one's own in the place of the processes."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(f"import os, signal, sys, time\n{text}\n")
        monkeypatch.setattr(distributed, "command", lambda cell: ["--nproc_per_node=2", str(path)])

    return write


def test_the_processes_train_exactly_this_cell(cell, monkeypatch, capsys):
    count, path, *options = distributed.command(cell)
    assert count == "--nproc_per_node=2" and Path(path) == PROJECT / "x2c/train.py"
    assert "--data=phantom" in options and "--loss.adv.weight=0.002" in options
    monkeypatch.setattr(sys, "argv", [path, *options, "--check"])
    main()
    shown = capsys.readouterr().out
    assert "variant: l1_adv" in shown and "weight: 0.002" in shown and "processes: 2" in shown
    assert resolve("l1_adv", "smoke", 0, cell.overrides) == cell.config


def test_processes_are_no_part_of_a_run_id(sweep_file, tmp_path, cell):
    alone = plan_of(tmp_path, "cache", "compute.processes=1").cells[0]
    assert alone.run_id == cell.run_id


@pytest.mark.slow
def test_two_processes_in_a_sweep_learn_what_one_does(sweep_file, smoke_run, copy_of_run, smoke_cache, tmp_path):
    """The same losses to tolerance: each has half of every batch, and the gradients are averaged."""
    sweep_file(parameters={"variant": {"values": ["l1_adv"]}, "stages.xray.steps": {"value": 5}})
    begun, found = smoke_run("l1"), {}
    for processes in (1, 2):
        plan = plan_of(tmp_path / str(processes), smoke_cache, f"compute.processes={processes}")
        copy_of_run(begun, Path(plan.runs), begun=True)
        queue = Queue(plan, create=True)
        queue.enqueue(plan.cells)
        from x2c.engine.experiment import run

        drain(queue, plan.cells, run)
        (cell,) = plan.cells
        assert snapshot(cell).state == "done", snapshot(cell).reason
        before = cell.stages[-1].before
        found[processes] = {
            name: [(step - before, value) for step, value in cell.run.logged(name) if step > before]
            for name in ("loss/l1", "loss/adv", "validation_loss")
        }
    for name, alone in found[1].items():
        assert len(alone) == len(found[2][name]) >= (5 if name == "loss/l1" else 2)
        assert [step for step, _ in alone] == [step for step, _ in found[2][name]]
        # Adam makes a whole step of a gradient that is mere rounding, and what the discriminator says follows it at once.
        count = 2 if name == "loss/adv" else len(alone)
        for (step, one), (_, two) in zip(alone[:count], found[2][name], strict=False):
            tolerance = 3e-4 if step <= 3 and name != "loss/adv" else 1e-2
            assert one == pytest.approx(two, rel=tolerance), (name, step)


def test_their_failure_is_the_cells(cell, script):
    script("sys.exit(3)")
    with pytest.raises(distributed.ProcessesFailed, match="2 processes ended with code 1"):
        distributed.run(cell)
    for reason, kind in (
        ("UserError: no such file", UserError),
        ("OutOfMemoryError: CUDA out of memory", RuntimeError),
    ):
        cell.run.report("failed", "train xray", 3, 9, reason=reason)
        error = distributed._failure(cell, 1, None)
        assert isinstance(error, kind) and str(error) in reason and passing(error) == ("memory" in reason)


def test_what_stops_the_worker_stops_them_after_a_checkpoint(cell, script, tmp_path):
    script(
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path)!r} + f'/asked-{{os.getpid()}}', 'w'), sys.exit(75)))\n"
        f"open({str(tmp_path)!r} + f'/up-{{os.getpid()}}', 'w')\ntime.sleep(60)"
    )

    def look():
        if len(list(tmp_path.glob("up-*"))) == 2:
            raise KeyboardInterrupt

    with fence.fenced(look), pytest.raises(KeyboardInterrupt):
        distributed.run(cell)
    assert len(list(tmp_path.glob("asked-*"))) == 2


def test_who_asks_a_worker_to_stop_waits_longer_than_the_worker(monkeypatch):
    assert launch.STOP_SECONDS > launch.CHECKPOINT_SECONDS
    monkeypatch.setattr(launch, "STOP_SECONDS", 0.5)
    line = "trap '{}' TERM; echo; while :; do sleep 0.05; done"
    processes = [
        subprocess.Popen(["/bin/sh", "-c", line.format(how)], stdout=subprocess.PIPE) for how in ("exit 75", "")
    ]
    for process in processes:
        process.stdout.read(1)
        process.stdout.close()
    launch.stop_all(processes)
    assert [process.returncode for process in processes] == [75, -signal.SIGKILL]


def test_a_lost_cell_kills_them_at_once(cell, script, tmp_path):
    script(
        f"from x2c.engine.belonging import belonging\nwith belonging():\n"
        f"    open({str(tmp_path)!r} + f'/up-{{os.getpid()}}', 'w')\n    time.sleep(60)"
    )

    def lost():
        if len(list(tmp_path.glob("up-*"))) == 2:
            raise LookupError("another has it")

    with fence.fenced(lost), pytest.raises(LookupError):
        distributed.run(cell)
    for path in tmp_path.glob("up-*"):
        number = int(path.name.removeprefix("up-"))
        wait_for(lambda number=number: not Path(f"/proc/{number}").exists(), 5)


def test_a_search_gives_them_up_too(cell, script, tmp_path):
    steps = cell.config.steps
    log = cell.run.path / "metrics.jsonl"
    script(
        f"if os.environ['LOCAL_RANK'] == '0':\n"
        f"    open({str(log)!r}, 'w').write('{{\"step\": {steps - 4}, \"validation_loss\": 1.0}}\\n')\ntime.sleep(60)"
    )
    cell.run.report("running", "train xray", steps - 4, steps)
    told = []

    def prune(step):
        told.append(step)
        raise listening.Pruned("others are better")

    with listening.on_validation(prune), pytest.raises(listening.Pruned):
        distributed.run(cell)
    assert told == [steps - 4]
    assert (cell.run.status()["state"], cell.run.status()["reason"]) == ("pruned", "Pruned: others are better")


def test_each_line_of_a_log_is_read_once_and_again_after_a_resume(cell, monkeypatch):
    steps, log = cell.config.steps, cell.run.path / "metrics.jsonl"
    first, second = (json.dumps({"step": steps - left, "validation_loss": 1.0}) + "\n" for left in (2, 1))
    texts = [first, "", first, '{"step": 1}\n' * 50, "", "", second[:9], second[9:], None, second]
    log.parent.mkdir(parents=True)
    log.write_text(texts[0])

    class Process:
        """Writes what is next each time it is asked whether it has ended."""

        next = 1

        def poll(self):
            if self.next == len(texts):
                return 0
            text = texts[self.next]
            log.write_text(first if text is None else log.read_text() + text)
            self.next += 1
            return None

    read, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda line: read.append(line) or loads(line))
    monkeypatch.setattr(distributed, "LOOK_SECONDS", 0.0)
    told = []
    with listening.on_validation(told.append):
        distributed._watch(Process(), cell)
    # The first was there before the processes were.
    assert told == [steps - 2, steps - 1, steps - 2, steps - 1]
    assert len(read) == 1 + 1 + 50 + 1 + 2


def test_what_belongs_to_a_worker_writes_only_while_the_cell_is_its(cell, monkeypatch):
    with belonging():
        fence.check()
    monkeypatch.setenv(machine.WORKER, f"m:{os.getpid()}")
    monkeypatch.setenv(machine.CLAIM, str(cell.run.path.parent / ".claims" / cell.run_id))
    with belonging():
        with claimed(cell) as mine:
            assert mine
            fence.check()
            claim = Path(os.environ[machine.CLAIM])
            claim.write_text(json.dumps({**json.loads(claim.read_text()), "worker": "m:1"}))
            with pytest.raises(NotOurs):
                cell.run.report("done", "done")
        assert not cell.run.done
    fence.check()


def test_what_a_killed_worker_has_started_ends(tmp_path):
    worker = subprocess.Popen(["sleep", "60"])
    code = "import time\nfrom x2c.engine.belonging import belonging\nwith belonging():\n    time.sleep(60)"
    claims = {machine.WORKER: f"m:{worker.pid}", machine.CLAIM: str(tmp_path / "claim")}
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **claims}, cwd=PROJECT)
    time.sleep(0.5)
    assert child.poll() is None
    worker.kill()
    worker.wait()
    assert child.wait(15) == -signal.SIGKILL


def test_each_process_has_a_gpu_of_its_own():
    two = resolve("l1", "smoke", 0, ["compute.cpu=false", "compute.processes=2"]).compute
    assert worker_count(two, GPUS) == 2
    assert [environment(n, GPUS, 2)["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["a,b", "c,d", "a,b"]
    check_processes(two, GPUS)
    with pytest.raises(UserError, match="expected 1 or fewer, one for each GPU; got 2"):
        check_processes(two, GPUS[:1])
    packed = resolve("l1", "smoke", 0, ["compute.processes=2", "compute.workers_per_gpu=2"]).compute
    with pytest.raises(UserError, match=r"expected 1 beside compute\.processes=2"):
        check_processes(packed, GPUS)
    check_processes(packed, [])
