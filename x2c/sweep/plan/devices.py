"""GPUs of this machine: their assignment to workers, and the check of their memory."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from x2c.core.compute import Compute
from x2c.core.errors import UserError

VARIABLE = "CUDA_VISIBLE_DEVICES"
QUERY = ("--query-gpu=uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
QUERY_SECONDS = 30


@dataclass(frozen=True)
class Device:
    """A GPU, or a part of one; unknown properties are None."""

    key: str
    """Its name in CUDA_VISIBLE_DEVICES: an index, `GPU-…`, `MIG-…`."""
    uuid: str = ""
    name: str = ""
    total_gb: float | None = None
    free_gb: float | None = None
    """Free memory in GiB."""

    def __str__(self) -> str:
        return f"GPU {self.key} ({self.name})" if self.name else f"GPU {self.key}"


def usable_devices(compute: Compute, visible: str | None) -> list[Device]:
    """Return the GPUs that workers may use: none if the configuration stays on the CPU, or NVIDIA's driver shows none.

    `visible` is the value of CUDA_VISIBLE_DEVICES, None if it is not set.
    """
    program = shutil.which("nvidia-smi")
    if compute.cpu or program is None:
        return []
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=QUERY_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return visible_devices(parse(done.stdout), visible) if done.returncode == 0 else []


def parse(text: str) -> list[Device]:
    """Parse the output of nvidia-smi; keys are UUIDs, since CUDA may count GPUs in another order."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    return [
        Device(uuid, uuid, name, _gibibytes(total), _gibibytes(free))
        for uuid, name, total, free in (row for row in rows if len(row) == 4)
    ]


def visible_devices(devices: Sequence[Device], visible: str | None) -> list[Device]:
    """Return those of all devices that CUDA_VISIBLE_DEVICES allows, in its order and under its names.

    As in CUDA, an unknown name ends the list. A MIG instance is accepted unchecked; its memory is unknown.
    Indices are nvidia-smi's, which on a machine with GPUs of several kinds are CUDA's with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if visible is None:
        return list(devices)
    found: list[Device] = []
    for key in (word.strip() for word in visible.split(",")):
        device = _named(devices, key)
        if device is None:
            break
        found.append(device)
    return found


def crew_for(workers: int | None, needs: Sequence[Compute], cells: int | None = None) -> tuple[int, list[Device]]:
    """Return how many workers this machine gets for cells with these `needs`, and the GPUs that they take in turn.

    `workers` is the requested number; `cells` is the number of cells, if it is not one for each need.
    Raises UserError if they need more GPU memory than there is.
    """
    if not needs:
        return 0, []
    devices = usable_devices(needs[0], os.environ.get(VARIABLE))
    check_processes(needs[0], devices)
    size = min(workers or worker_count(needs[0], devices), len(needs) if cells is None else cells)
    check_memory(needs, devices, size)
    return size, devices


def default_workers(compute: Compute) -> int:
    """Default number of workers on this machine, without --workers."""
    return worker_count(compute, usable_devices(compute, os.environ.get(VARIABLE)))


def worker_count(compute: Compute, devices: Sequence[Device]) -> int:
    """Default number of workers on these GPUs, or without any."""
    return len(devices) // compute.processes * compute.workers_per_gpu or compute.workers


def environment(worker: int, devices: Sequence[Device], processes: int = 1) -> dict[str, str]:
    """Return the environment of a worker (from 0) with GPUs of its own, one per process; workers take them in turn."""
    if not devices:
        return {}
    first = worker % (len(devices) // processes) * processes
    return {VARIABLE: ",".join(device.key for device in devices[first : first + processes])}


def check_processes(compute: Compute, devices: Sequence[Device]) -> None:
    """Raise UserError for more processes in a cell than GPUs, and for cells of several processes that share a GPU."""
    if not devices or compute.processes == 1:
        return
    if compute.processes > len(devices):
        raise UserError(
            f"compute.processes: expected {len(devices)} or fewer, one for each GPU; got {compute.processes}; "
            "use fewer, or --compute.cpu=true"
        )
    if compute.workers_per_gpu > 1:
        raise UserError(
            f"compute.workers_per_gpu: expected 1 beside compute.processes={compute.processes}, whose GPUs are a cell's "
            f"own; got {compute.workers_per_gpu}"
        )


def check_memory(needs: Sequence[Compute], devices: Sequence[Device], workers: int) -> None:
    """Raise UserError if workers may need more memory than a GPU has free; `needs` are their cells'. Unknown ones pass.

    The error gives the numbers.
    """
    need, processes = max(compute.gpu_memory_gb or 0.0 for compute in needs), needs[0].processes
    groups = len(devices) // processes
    for number, device in enumerate(devices[: groups * processes]):
        sharing = len(range(number // processes, workers, groups))
        if device.free_gb is None or device.total_gb is None or sharing * need <= device.free_gb:
            continue
        fit = int(device.free_gb // need)
        advice = f"use --workers {fit * groups}" if fit else "free its memory"
        if fit and processes == 1:
            advice += f", or --compute.workers_per_gpu={fit}"
        raise UserError(
            f"compute.gpu_memory_gb: expected {sharing} × {need:g} = {sharing * need:g} GiB free on {device} for the "
            f"workers that share it; it has {device.free_gb:.1f} of {device.total_gb:.1f}; {advice}"
        )


def _named(devices: Sequence[Device], key: str) -> Device | None:
    if key.startswith("MIG-"):
        return Device(key)
    if key.isdigit():
        match = [device for number, device in enumerate(devices) if number == int(key)]
    else:
        # As in CUDA, the beginning of a UUID will do if it fits one GPU only.
        match = [device for device in devices if key.startswith("GPU-") and device.uuid.startswith(key)]
    if len(match) != 1:
        return None
    (device,) = match
    return Device(key, device.uuid, device.name, device.total_gb, device.free_gb)


def _gibibytes(mebibytes: str) -> float | None:
    try:
        return float(mebibytes) / 1024
    except ValueError:
        # `[N/A]` if GPU and processor share their memory.
        return None
