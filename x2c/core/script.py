"""Entry points: what they do before they import anything that takes time."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).resolve().parents[2]


def begin(module: str, name: str) -> None:
    """Begin an entry point whose `__name__` is `module`: from now on an interrupt is one, and a first line is there.

    Imports come after it: they take seconds, in which a signal may come and someone waits for a word. As a module of
    another program it only mends sys.path.
    """
    leave_script_folder()
    if module != "__main__":
        return
    from x2c.core.stopping import listen

    sys.excepthook, sys.unraisablehook = _on_uncaught, _on_unraisable
    listen()
    # Help is for reading, and of several processes one speaks.
    if not {"-h", "--help"} & set(sys.argv[1:]) and os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            print(f"{name}: loading", file=sys.stderr, flush=True)


def leave_script_folder() -> None:
    """Put the project root where Python put the script's own folder on sys.path.

    Otherwise `analysis/tables.py` would shadow PyTables, whose module has the same name, and so on, for every library
    that looks for it.
    """
    own = {str(PROJECT / "x2c"), str(PROJECT / "analysis")}
    sys.path[:] = [str(PROJECT), *(p for p in sys.path if p not in own and p != str(PROJECT))]


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An interrupt of imports, or what they made of it, is one line and an exit code."""
    from x2c.core.errors import end_of
    from x2c.core.stopping import Stopped, asked

    if not isinstance(error, KeyboardInterrupt) and not asked():
        sys.__excepthook__(kind, error, trace)
        return
    # Python exits with the code of what its hook raises.
    sys.exit(end_of(error if isinstance(error, KeyboardInterrupt) else Stopped(asked())))


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """An interrupt that came where nothing can be raised is raised by whatever asks for one next."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
