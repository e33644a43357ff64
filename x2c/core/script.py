"""Start of entry points: signals and messages before the imports that take seconds."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "pandas",
    "scipy",
    "optuna",
    "sqlalchemy",
    "matplotlib",
    "accelerate",
    "wandb",
    "sklearn",
    "SimpleITK",
}
"""Packages that take long to import."""
IDLE = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Idle threads of PyTorch and NumPy sleep at once rather than spin: two processes that share two cores would otherwise
take several times as long as one after the other. No result depends on it. Those libraries read it when they are loaded."""


def begin(module: str, name: str) -> None:
    """Begin an entry point whose `__name__` is `module`: install signal handlers and a message for slow imports.

    All other imports come after it: they take seconds, in which a signal may arrive. In a module that another program
    imports it only corrects sys.path.
    """
    leave_script_folder()
    if module != "__main__":
        return
    os.environ.update(idle_environment())
    from x2c.core.stopping import install_signal_handlers

    sys.excepthook, sys.unraisablehook = _on_uncaught, _on_unraisable
    install_signal_handlers()
    # Of several processes, one prints the message.
    if os.environ.get("RANK", "0") == "0":
        sys.meta_path.insert(0, _FirstLine(name))


class _FirstLine:
    """Prints that a program is loading, before the first slow import: help and most errors need none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, module: str, _path: object = None, _target: object = None) -> None:
        """Called by Python for every module that is about to be imported; finds none."""
        if self.name and module in HEAVY:
            with contextlib.suppress(OSError):
                print(f"{self.name}: loading", file=sys.stderr, flush=True)
            self.name = ""


def idle_environment() -> dict[str, str]:
    """The variables IDLE, with the user's own values where there are any.

    Programs set them before they import NumPy or PyTorch, and for the processes that they start. The library leaves the
    environment of whoever imports it as it is.
    """
    return {name: os.environ.get(name, value) for name, value in IDLE.items()}


def leave_script_folder() -> None:
    """Replace the script's own folder, which Python put on sys.path, with the project root.

    Otherwise `analysis/tables.py` would shadow PyTables, whose module has the same name, and other files other
    libraries.
    """
    own = {str(PROJECT / "x2c"), str(PROJECT / "analysis")}
    sys.path[:] = [str(PROJECT), *(p for p in sys.path if p not in own and p != str(PROJECT))]


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an interrupt during imports, or an error that it caused, as one line and an exit code."""
    from x2c.core.errors import end_of
    from x2c.core.stopping import Stopped, requested_signal

    if not isinstance(error, KeyboardInterrupt) and not requested_signal():
        sys.__excepthook__(kind, error, trace)
        return
    # Python exits with the code of the exception that its hook raises.
    sys.exit(end_of(error if isinstance(error, KeyboardInterrupt) else Stopped(requested_signal())))


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Keep an interrupt that arrived where nothing can be raised; the next `stopping.check` raises it."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
