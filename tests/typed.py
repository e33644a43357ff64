"""Command lines as documents show them, taken apart without running anything."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from unittest import mock

from x2c.core.cli import Parser
from x2c.core.script import PROJECT

MADE = (".venv/.ready", *(str(path.relative_to(PROJECT)) for path in PROJECT.glob(".venv/share/x2c/*.whl")))
"""Files that are not to be made again."""


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """`make` that prints what it would run."""
    # Of the `make` that may have started the tests.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    line = ["make", "--dry-run", *(f"--old-file={path}" for path in MADE), *words]
    return subprocess.run(line, cwd=PROJECT, env=environment, capture_output=True, text=True)


class Parsed(Exception):
    """Raised as soon as a command line is parsed; holds the options and overrides."""

    def __init__(self, options: argparse.Namespace, overrides: list[str]) -> None:
        self.options, self.overrides = options, overrides


def parsed(words: Sequence[str]) -> Parsed:
    """Parse a line such as `x2c/train.py --variant l1` or `-m x2c.sweep plan losses` by its own parser; run nothing.

    Raises UserError or SystemExit where the parser refuses it.
    """
    if words[0] == "-m":
        module, *arguments = words[1:]
    else:
        module, arguments = words[0].removesuffix(".py").replace("/", "."), list(words[1:])
    if (PROJECT / module.replace(".", "/") / "__main__.py").exists():
        module = f"{module}.__main__"
    split, parse_args = Parser.split, argparse.ArgumentParser.parse_args

    def stop_after_split(parser: Parser, given: Sequence[str]) -> Any:
        raise Parsed(*split(parser, given))

    def stop_after_parsing(parser: argparse.ArgumentParser, *given: Any) -> Any:
        raise Parsed(parse_args(parser, *given), [])

    # `x2c.train` is a function; the script of that name runs this module.
    main = importlib.import_module("x2c.train_command" if module == "x2c.train" else module).main
    with (
        mock.patch.object(Parser, "split", stop_after_split),
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop_after_parsing),
        mock.patch.object(sys, "argv", [module, *arguments]),
    ):
        try:
            main()
        except Parsed as stopped:
            return stopped
    raise AssertionError(f"{module}: its main parses no command line")
