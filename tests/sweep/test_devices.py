"""Workers and GPUs, on machines that are made up."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from x2c.core.errors import UserError
from x2c.core.identity import identity
from x2c.core.resolve import resolve
from x2c.sweep.__main__ import main
from x2c.sweep.plan.devices import (
    Device,
    check_memory,
    crew_for,
    default_workers,
    environment,
    parse,
    usable_devices,
    visible_devices,
    worker_count,
)
from x2c.sweep.reproduce import steps
from x2c.sweep.run.crew import Crew
from x2c.sweep.show import cost

A, B, C = (f"GPU-{letter * 8}-0000-0000-0000-{letter * 12}" for letter in "abc")
# In the form of `nvidia-smi --query-gpu=uuid,name,memory.total,memory.free --format=csv,noheader,nounits`.
PRINTED = f"""\
{A}, NVIDIA A100-SXM4-40GB, 40960, 40536
{B}, NVIDIA A100-SXM4-40GB, 40960, 10240
{C}, NVIDIA GH200 480GB, [N/A], [N/A]
"""
DEVICES = parse(PRINTED)


def compute(**values):
    fields = [f"compute.{name}={value}" for name, value in {"cpu": "false", **values}.items()]
    return resolve("l1", "smoke", 0, fields).compute


def test_the_printed_list_is_read():
    assert [device.key for device in DEVICES] == [A, B, C]
    assert (DEVICES[1].name, DEVICES[1].total_gb, DEVICES[1].free_gb) == ("NVIDIA A100-SXM4-40GB", 40.0, 10.0)
    assert (DEVICES[2].total_gb, DEVICES[2].free_gb) == (None, None)
    assert parse("") == parse("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == []


@pytest.mark.parametrize(
    ("variable", "uuids"),
    [
        (None, [A, B, C]),
        ("", []),
        ("1", [B]),
        ("2, 0", [C, A]),
        ("1,9,0", [B]),
        ("-1", []),
        ("0,-1,1", [A]),
        (B, [B]),
        ("GPU-cc,GPU-aaaa", [C, A]),
        ("GPU-", []),
        ("nonsense", []),
    ],
)
def test_what_the_user_made_visible_is_respected(variable, uuids):
    found = visible_devices(DEVICES, variable)
    assert [device.uuid for device in found] == uuids
    if variable:
        words = [word.strip() for word in variable.split(",")]
        assert [device.key for device in found] == words[: len(found)], "workers are told the user's own names"


def test_parts_of_a_gpu_keep_their_names():
    mig = "MIG-5a2c0d1e-1111-2222-3333-444455556666"
    (device,) = visible_devices(DEVICES, mig)
    assert (device.key, device.free_gb) == (mig, None)
    check_memory([compute(gpu_memory_gb=1000)], [device], 9)
    assert environment(4, [device]) == {"CUDA_VISIBLE_DEVICES": mig}


def test_workers_take_gpus_in_turn():
    told = [environment(worker, DEVICES)["CUDA_VISIBLE_DEVICES"] for worker in range(5)]
    assert told == [A, B, C, A, B]
    assert environment(3, []) == {}


def test_the_number_of_workers_follows_the_gpus():
    assert worker_count(compute(workers_per_gpu=3), DEVICES[:2]) == 6
    assert worker_count(compute(workers=2, workers_per_gpu=3), []) == 2


def test_too_little_free_memory_is_refused_with_the_numbers():
    check_memory([compute(gpu_memory_gb=10)], DEVICES[:2], 2)
    check_memory([compute(gpu_memory_gb=4), compute(gpu_memory_gb=5)], DEVICES[:2], 4)
    with pytest.raises(UserError) as error:
        check_memory([compute(), compute(gpu_memory_gb=5.5)], DEVICES[:2], 4)
    assert str(error.value) == (
        f"compute.gpu_memory_gb: expected 2 × 5.5 = 11 GiB free on GPU {B} (NVIDIA A100-SXM4-40GB) for the workers that "
        "share it; it has 10.0 of 40.0; use --workers 2, or --compute.workers_per_gpu=1"
    )
    with pytest.raises(UserError, match=r"expected 1 × 12 = 12 GiB free .* it has 10.0 of 40.0; free its memory"):
        check_memory([compute(gpu_memory_gb=12)], DEVICES[1:2], 1)


def test_processes_that_train_together_need_the_memory_of_all_their_gpus():
    def gpus(*free):
        return [Device(key, total_gb=40.0, free_gb=gb) for key, gb in zip("abcde", free, strict=False)]

    needs = [compute(processes=2, gpu_memory_gb=5)]
    check_memory(needs, gpus(8, 8, 8, 8, 1), 2)
    with pytest.raises(UserError, match=r"expected 1 × 5 = 5 GiB free on GPU d .* free its memory"):
        check_memory(needs, gpus(8, 8, 8, 3), 2)
    with pytest.raises(UserError, match=r"expected 2 × 5 = 10 GiB free on GPU a .* use --workers 2$"):
        check_memory(needs, gpus(8, 8, 8, 8), 4)


def test_memory_that_is_not_known_is_not_judged():
    check_memory([compute()], DEVICES, 50)
    check_memory([compute(gpu_memory_gb=500)], DEVICES[2:], 50)


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """A machine whose nvidia-smi prints PRINTED."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{PRINTED}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_a_crew_fits_the_machine(gpus, monkeypatch):
    needs = [compute(workers_per_gpu=2, gpu_memory_gb=5)] * 20
    assert crew_for(None, needs) == (6, DEVICES)
    assert crew_for(None, needs[:4]) == (4, DEVICES)
    with pytest.raises(UserError, match="expected 3 × 5 = 15 GiB free"):
        crew_for(9, needs)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    size, devices = crew_for(None, needs)
    assert (size, [device.uuid for device in devices]) == (2, [A])
    assert crew_for(None, []) == (0, [])


def test_a_search_gets_as_many_workers_as_it_has_runs(gpus):
    needs = [compute(workers_per_gpu=2)] * 2
    assert [crew_for(None, needs, runs)[0] for runs in (9, 3, 0)] == [6, 3, 0]


def test_what_is_left_is_told_for_as_many_workers_as_run_starts(gpus, monkeypatch, capsys):
    """Of a plan and of a reproduction, where no one gives a number."""
    asked = []
    monkeypatch.setattr(cost, "estimate", lambda plan, workers: asked.append(workers))
    fields = ("compute.cpu=false", "compute.workers_per_gpu=2")
    monkeypatch.setattr(
        sys, "argv", ["x2c.sweep", "plan", "losses", "--scale=smoke", *(f"--{text}" for text in fields)]
    )
    assert main() == 0
    monkeypatch.setattr(steps, "estimate", lambda plan, workers: asked.append(workers) or SimpleNamespace(seconds={}))
    steps.seconds_left([steps.SweepStep(steps.Where("smoke", "phantom", "runs", "reports", fields), "losses")])
    assert asked == [6, 6] and default_workers(compute(workers_per_gpu=3)) == 9


def test_the_cpu_and_a_broken_driver_have_no_gpus(gpus):
    assert usable_devices(compute(cpu="true"), None) == []
    gpus.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert usable_devices(compute(), None) == []


def test_a_crew_tells_each_worker_its_gpu(make_plan, tmp_path, monkeypatch):
    plan = make_plan()
    crew = Crew(plan, plan.cells, SimpleNamespace(), None, [], 3, DEVICES[:2])
    crew.command = ["/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    crew.start()
    assert [crew.workers[number].process.wait(10) for number in (1, 2, 3)] == [0, 0, 0]
    assert [crew.workers[number].last_line() for number in (1, 2, 3)] == [A, B, A]


def test_none_of_it_is_part_of_a_run_id():
    plain = resolve("l1", "smoke")
    packed = resolve("l1", "smoke", 0, ["compute.workers_per_gpu=4", "compute.gpu_memory_gb=9"])
    assert packed.compute != plain.compute
    assert identity(packed) == identity(plain)
