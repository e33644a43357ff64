"""The command `x2c`: a common entry point of all programs, which also work under their own names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from x2c.core.errors import exit_on_user_error, unknown
from x2c.core.script import begin


@dataclass(frozen=True)
class Command:
    """A program: its module, whose `main(argv)` returns an exit code or None, and a line for --help."""

    module: str
    summary: str


COMMANDS = {
    "sweep": Command("x2c.sweep.__main__", "plan, run and watch the cells of an ablation, and searches"),
    "train": Command("x2c.train_command", "train, sample and score one variant"),
    "sample": Command("x2c.sample", "volumes from X-rays by a finished run"),
    "prepare": Command("x2c.prepare", "a data set of patients' CTs and X-rays from files"),
    "classify": Command("x2c.classify", "classify embolism on true and generated volumes: Table 3"),
    "autoencoder": Command("x2c.train_autoencoder", "train a variant's VQ-GAN"),
    "weights": Command("x2c.weights", "pretrained weights: what each is for, and where it is"),
    "runs": Command("x2c.runs.__main__", "list, show, remove and export runs"),
    "tables": Command("analysis.tables", "the paper's tables from finished runs"),
    "figures": Command("analysis.figures", "the figures of finished runs"),
    "claims": Command("analysis.claims", "the paper's claims held against finished runs"),
    "results": Command("analysis.results", "RESULTS.md from finished runs"),
    "trace": Command("analysis.trace", "everything behind a cell of a table"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Pass the words after a command's name to its program; return the exit code.

    Raises UserError for a command that does not exist, with the nearest name.
    """
    name, *words = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if name == "--version":
        from x2c import __version__

        print(f"x2c {__version__}")
        return 0
    if name not in COMMANDS:
        raise unknown("x2c", "command", name, COMMANDS)
    # Imported here: every program reports errors in its options before its slow imports.
    run: Callable[[Sequence[str]], int | None] = import_module(COMMANDS[name].module).main
    return run(words) or 0


def help_text() -> str:
    """Return all commands with a line about each."""
    lines = [f"  {name:<13} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: x2c COMMAND [options]",
            "",
            "The ablation laboratory for X-ray to CT diffusion models.",
            "",
            "commands:",
            *lines,
            "",
            "x2c COMMAND --help tells a command's options, x2c --version the version.",
        ]
    )


def console() -> None:
    """The console script `x2c`."""
    begin("__main__", f"x2c {sys.argv[1]}" if len(sys.argv) > 1 else "x2c")
    exit_on_user_error(main)


if __name__ == "__main__":
    console()
