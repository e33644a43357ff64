"""Errors that the user can fix: one line that says where, what and how."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from x2c.core.shared import denial
from x2c.core.stopping import STOPPED, check, exit_code, exit_on_signal, interruptible

MOST_CHOICES = 100
"""The most choices that an error lists: a sweep may have tens of thousands of runs."""


class UserError(Exception):
    """`where: what was expected; what was got; what to do`: shown as one line, without a traceback."""

    code = 2
    """Exit code of a program that ends with this error."""


class FileError(UserError):
    """A file that cannot be used. `reason` does not name the file: paths of patients' files may identify them."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def nearest(name: str, choices: Iterable[str], hint: str = "") -> str:
    """Return `did you mean 'x'? choices: a, b, c` for a wrong name; `hint` replaces the first half."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = hint or (f"did you mean {close[0]!r}? " if close else "")
    shown = ", ".join(known[:MOST_CHOICES]) or "(none)"
    return f"{hint}choices: {shown}" + (f" and {len(known) - MOST_CHOICES} more" if len(known) > MOST_CHOICES else "")


def unknown(where: str, kind: str, name: str, choices: Iterable[str], hint: str = "") -> UserError:
    """Return the error for a name that is not among the choices; `hint` is used in place of the nearest name."""
    return UserError(f"{where}: expected a known {kind}; got {name!r}; {nearest(str(name), choices, hint)}")


def reason_of(error: Exception) -> str:
    """Return an error's type and message in one line, for status.json and logs.

    Every kind of UserError is named `UserError`: a worker recognises by it why its child processes failed.
    """
    kind = UserError if isinstance(error, UserError) else type(error)
    text = denial(error) if isinstance(error, PermissionError) else " ".join(str(error).split())
    return f"{kind.__name__}: {text}" if text else kind.__name__


def exit_on_user_error(main: Callable[[], int | None]) -> None:
    """Run `main` as a program: its return value is the exit code; a UserError is one line and its own code, mostly 2.

    A file that this process may not use (PermissionError) is one line as well; it is mostly another user's file in a
    shared folder.

    Ctrl-C is one line and code 130; other requests to stop, after `stopping.install_signal_handlers`, code 75. Any
    error that `main` raises after such a request counts as an interrupt.
    """
    code = 0
    try:
        with interruptible():
            code = main() or 0
            if code not in STOPPED:
                check()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.code
    except PermissionError as error:
        print(f"error: {denial(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as stop:
        code = end_of(stop)
    finally:
        exit_on_signal()
    sys.exit(code)


def end_of(stop: KeyboardInterrupt) -> int:
    """Report that a program was interrupted; return its exit code."""
    # Ctrl-C may have ended the process that reads our output as well.
    with contextlib.suppress(OSError):
        print(f"{str(stop) or 'interrupted'}; rerun the same command to resume", file=sys.stderr)
    return exit_code(stop)
