"""Measurement of this device's power, if it reports it: NVIDIA's driver for a GPU, Intel's RAPL for processors."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

import torch

POWERCAP = Path("/sys/class/powercap")
QUERY = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
BETWEEN_SECONDS = 0.2


class Meter:
    """A context manager; afterwards `watts` is the mean power in the block, None if the device does not report it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.watts = device, None
        self._over = threading.Event()
        self._samples: list[float] = []

    watts: float | None

    def __enter__(self) -> Meter:
        self._began, self._joules = time.monotonic(), _processor_joules()
        if self.device.type == "cuda":
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._began
        if self.device.type == "cuda":
            self._over.set()
            self._thread.join()
            self.watts = sum(self._samples) / len(self._samples) if self._samples else None
            return
        joules = _processor_joules()
        # A counter that overflowed in between is useless.
        if joules is not None and self._joules is not None and joules > self._joules:
            self.watts = (joules - self._joules) / seconds

    def _sample(self) -> None:
        while not self._over.is_set():
            watts = _gpu_watts(self.device.index or 0)
            if watts is None:
                return
            self._samples.append(watts)
            self._over.wait(BETWEEN_SECONDS)


def _gpu_watts(index: int) -> float | None:
    try:
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        done = subprocess.run([*QUERY, f"--id=GPU-{uuid}"], capture_output=True, text=True, timeout=10)
        return float(done.stdout.split()[0])
    except (OSError, ValueError, IndexError, AttributeError, subprocess.TimeoutExpired):
        return None


def _processor_joules() -> float | None:
    """Return the joules on the energy counters of all processor packages; None if there is none that may be read."""
    counters = [path / "energy_uj" for path in POWERCAP.glob("intel-rapl:*") if path.name.count(":") == 1]
    try:
        return sum(int(path.read_text()) for path in counters) / 1e6 if counters else None
    except (OSError, ValueError):
        return None
