"""Write the pages of docs/reference/ that are made from the code: configuration, commands, variants.

    python docs/generate.py

A test compares the pages with the code, so that they cannot drift: after a change of a field, an option, a variant or
a sweep, run this again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn
from unittest import mock

from x2c.core.about import about
from x2c.core.help_config import Line, fields, section_fields
from x2c.core.registry import LOSS_TERMS, SLOTS, SOURCES, Registry
from x2c.core.resolve import EXPERIMENTS, read_yaml, resolve, scales, variants
from x2c.core.script import PROJECT
from x2c.engine.classification.settings import ClassifierSettings, resolve_settings

FOLDER = PROJECT / "docs" / "reference"
WHOLE = "lidc_lora"
"""The variant that has all stages and all loss terms."""
SCALES = ("paper", "cpu")
"""Whose values are shown."""
HEADS = ("Field", "Type", *SCALES, "Meaning")
NOTE = "<!-- Made by `python docs/generate.py`. Do not edit: run it again. -->"
COMMANDS = (
    ("python x2c/train.py", "x2c.train_command", ()),
    ("python x2c/sample.py", "x2c.sample", ()),
    ("python x2c/classify.py", "x2c.classify", ()),
    ("python x2c/prepare.py", "x2c.prepare", ()),
    ("python x2c/train_autoencoder.py", "x2c.train_autoencoder", ()),
    ("python -m x2c.sweep plan", "x2c.sweep.__main__", ("plan",)),
    ("python -m x2c.sweep run", "x2c.sweep.__main__", ("run",)),
    ("python -m x2c.sweep worker", "x2c.sweep.__main__", ("worker",)),
    ("python -m x2c.sweep status", "x2c.sweep.__main__", ("status",)),
    ("python -m x2c.sweep retry", "x2c.sweep.__main__", ("retry",)),
    ("python -m x2c.sweep verify-resume", "x2c.sweep.__main__", ("verify-resume",)),
    ("python -m x2c.sweep dashboard", "x2c.sweep.__main__", ("dashboard",)),
    ("python -m x2c.sweep reproduce", "x2c.sweep.__main__", ("reproduce",)),
    ("python -m x2c.runs", "x2c.runs.__main__", ()),
    ("python -m x2c.weights", "x2c.weights", ()),
    ("python analysis/tables.py", "analysis.tables", ()),
    ("python analysis/figures.py", "analysis.figures", ()),
    ("python analysis/claims.py", "analysis.claims", ()),
    ("python analysis/results.py", "analysis.results", ()),
    ("python analysis/trace.py", "analysis.trace", ()),
)
"""Each command: the words as typed, the module whose `main` parses them, and the words before the options."""


class Caught(Exception):
    """Raised in the place of parsing, with the parser that would have parsed."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(module: str, words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser that a command's `main` makes; nothing of the command is run."""

    def catch(parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise Caught(parser)

    main = importlib.import_module(module).main
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", catch),
        mock.patch.object(sys, "argv", [module, *words]),
    ):
        try:
            main()
        except Caught as caught:
            return caught.parser
    raise RuntimeError(f"{module}: expected a main that parses the command line")


def configuration() -> str:
    """Every field, its type, its values at scales paper and cpu, and its meaning."""
    paper, cpu = (list(fields(resolve(WHOLE, scale))) for scale in SCALES)
    at_cpu = {(line.path, line.choice): line.value for line in cpu}
    order = list(dict.fromkeys(line.path.split(".")[0] for line in paper))
    parts = [
        NOTE,
        "# Configuration",
        "Every field can be given as `--field=value` to every command that takes a configuration. Values are YAML. A "
        "configuration is `experiments/base.yaml`, then the scale's file, then the variant's file, then the command line.",
        f"The values below are those of the variant `{WHOLE}`, which has all stages and all loss terms, at the scales "
        "`paper` and `cpu`. An option of a choice that the configuration does not make is shown with its default, and with "
        "the choice in parentheses. `python x2c/train.py --help-config` prints the same for any variant and scale.",
    ]
    for section in order:
        lines = [line for line in paper if line.path.split(".")[0] == section]
        parts += [f"## {section}", table(HEADS, map(_row_of(at_cpu), lines))]
    parts += ["## classification", "Settings of `python x2c/classify.py`, from `experiments/classification/`."]
    paper, cpu = (
        list(section_fields("classification", ClassifierSettings, resolve_settings(scale, []))) for scale in SCALES
    )
    parts.append(table(HEADS, map(_row_of({(line.path, line.choice): line.value for line in cpu}), paper)))
    return "\n\n".join(parts) + "\n"


def _row_of(at_cpu: dict[tuple[str, str], str]) -> Callable[[Line], tuple[str, ...]]:
    def row(line: Line) -> tuple[str, ...]:
        name = f"`{line.path}`" + (f" ({line.choice})" if line.choice else "")
        cpu = at_cpu.get((line.path, line.choice), "")
        return (name, line.kind, code(line.value), code(cpu), line.about)

    return row


def commands() -> str:
    """Every command with its options, from its own parser, and the targets of make."""
    # Without what another `make`, which may have started this, was given.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    listed = subprocess.run(
        ["make", "help"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    parts = [
        NOTE,
        "# Commands",
        "Options below are those of each command's own parser. Commands that take a configuration also take any field as "
        "`--a.b=value` (see [Configuration](configuration.md)). Every command has `--help`. Exit codes and environment "
        "variables have [a page of their own](environment.md).",
        "## make",
        f"```text\n{listed.strip()}\n```",
    ]
    for typed, module, words in COMMANDS:
        parser = parser_of(module, words)
        parts += [f"## {typed}", *_about(parser)]
    return "\n\n".join(parts) + "\n"


def _about(parser: argparse.ArgumentParser) -> Iterator[str]:
    if parser.description:
        yield f"```text\n{parser.description.strip()}\n```"
    yield from _options(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f"### {name}"
                yield f"{str(sub.description)[0].upper()}{str(sub.description)[1:]}."
                yield from _options(sub)
    # Lists of variants and choices have a page of their own.
    if parser.epilog and not parser.epilog.startswith("variants:"):
        yield f"```text\n{parser.epilog.strip()}\n```"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction)
        if hidden or isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
        name = ", ".join(action.option_strings) or str(metavar or action.dest)
        value = f" {metavar}" if action.option_strings and metavar else ""
        rows.append((f"`{name}{value}`", str(action.help or "").replace("%%", "%")))
    if rows:
        yield table(("Option", "Meaning"), rows)


def variants_page() -> str:
    """Variants, scales, sweeps, and the choices of every slot."""
    rows = []
    for name in variants():
        row = read_yaml(EXPERIMENTS / f"{name}.yaml").get("table2") or {}
        comment = about(EXPERIMENTS / f"{name}.yaml")
        told = "" if comment == f"{row.get('section')}: {row.get('label')}" else comment
        rows.append((f"`{name}`", str(row.get("section", "")), str(row.get("label", "")), told))
    folder = PROJECT / "sweeps"
    files = sorted(folder.glob("*.yaml"))
    sweeps = [(f"`{file.stem}`", str(read_yaml(file)["method"]), about(file)) for file in files]
    parts = [
        NOTE,
        "# Variants, scales and sweeps",
        "## Variants",
        "A variant is a file of `experiments/`, and a row of a table.",
        table(("Variant", "Section", "Row", "Remark"), rows),
        "## Scales",
        table(
            ("Scale", "Remark"), ((f"`{name}`", about(EXPERIMENTS / "scales" / f"{name}.yaml")) for name in scales())
        ),
        "## Sweeps",
        "A sweep is a file of `sweeps/`. The method `grid` runs every combination once, `bayes` and `random` search.",
        table(("Sweep", "Method", "Remark"), sweeps),
        "## Choices",
        "Each choice is registered in the code under the name below. The description is the first sentence of its class's "
        "or function's documentation.",
    ]
    slots: dict[str, Registry] = {"loss term": LOSS_TERMS, **SLOTS, "source of prepare.py": SOURCES}
    for slot, registry in slots.items():
        if slot in ("pretraining", "finetuning"):
            continue
        told = f"### {slot[0].upper()}{slot[1:]}"
        parts += [
            told,
            table(("Name", "Description"), ((f"`{name}`", _first(registry.get(name))) for name in registry.names())),
        ]
    parts.append("`pretraining` and `finetuning` have the choices of `dataset`.")
    return "\n\n".join(parts) + "\n"


def _first(entry: Any) -> str:
    return " ".join(str(entry.__doc__ or "").strip().split("\n\n")[0].split())


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    # Inside of code a reference to a character would be shown as it is.
    return line if "`" in line else line.replace("<", "&lt;")


def code(text: str) -> str:
    """A value as code; nothing where there is none."""
    return f"`{text}`" if text else ""


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "commands.md": commands,
    "variants.md": variants_page,
}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
