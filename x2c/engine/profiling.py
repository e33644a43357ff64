"""Profiles of training and sampling: the operations that take longest, as a table, and a trace to open in a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from x2c.core.files import replacing
from x2c.core.listening import on_step

if TYPE_CHECKING:
    from torch.profiler import profile

SKIPPED, WARM_UP, STEPS = 5, 2, 10
"""Steps before the profile, steps that warm the profiler up, and steps that are profiled."""
TOP = 10
"""Number of operations in the table."""
TRACE = "trace.json"
_STEP = {"ProfilerStep*": "between operations: Python, waiting"}


@contextmanager
def profiled_training(folder: Path) -> Iterator[None]:
    """Profile up to STEPS of the optimizer steps of the block; write the trace into `folder` and print the table."""
    from torch.profiler import profile, schedule

    done: list[Path] = []
    plan = schedule(wait=SKIPPED, warmup=WARM_UP, active=STEPS, repeat=1)

    def write(made: profile) -> None:
        done.append(_write(made, folder, "training steps"))

    _quiet()
    with profile(schedule=plan, on_trace_ready=write) as running, on_step(running.step):
        yield
    if not done:
        print(
            f"--profile: profiles from step {SKIPPED + WARM_UP + 1} on; this command trained fewer: nothing was profiled"
        )


@contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Profile the whole block; write the trace into `folder` and print the table."""
    from torch.profiler import profile

    _quiet()
    with profile() as running:
        yield
    _write(running, folder, "sampling")


def _quiet() -> None:
    """Keep the profiler's library from reporting on the error stream that there is no GPU."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")


def _write(made: profile, folder: Path, what: str) -> Path:
    path = folder / TRACE
    with replacing(path, durable=False) as temporary:
        made.export_chrome_trace(str(temporary))
    Console().print(_table(made, what))
    print(f"Wrote {path}; open it at https://ui.perfetto.dev or chrome://tracing")
    return path


def _table(made: profile, what: str) -> Table:
    """Return the operations with the most time of their own, without that of the operations that they call."""
    # Of a GPU's operations, the time on the GPU.
    events: list[Any] = list(made.key_averages())
    on_device = sum(event.self_device_time_total for event in events) > 0
    spent = "self_device_time_total" if on_device else "self_cpu_time_total"
    whole = sum(getattr(event, spent) for event in events)
    events.sort(key=lambda event: getattr(event, spent), reverse=True)
    table = Table(title=f"Operations of {what}: {whole / 1e6:.2f} s on the {'GPU' if on_device else 'CPU'}")
    for name in ("operation", "calls", "ms", "share"):
        table.add_column(name, justify="left" if name == "operation" else "right")
    for event in events[:TOP]:
        time = getattr(event, spent)
        table.add_row(
            _STEP.get(event.key, event.key), str(event.count), f"{time / 1000:.1f}", f"{time / max(whole, 1):.0%}"
        )
    return table
