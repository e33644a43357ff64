"""Options and parsing that the entry points' command lines share."""

from __future__ import annotations

import argparse
import difflib
import json
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from x2c.core.about import listed
from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.guesses import meant_option
from x2c.core.registry import LOSS_TERMS, SLOTS
from x2c.core.resolve import EXPERIMENTS, RESERVED, scales, variants
from x2c.core.yaml_text import quoted

FIELDS = [field for field in Config.model_fields if field not in RESERVED]
"""Fields that can be given as --field=value."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option, and exit code 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see --help")

    def split(self, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
        """Return the known options, and `--a.b=c` (or `--a.b c`) as overrides `a.b=c`; None: of this process's command line.

        Raises UserError for anything else.
        """
        known, rest = self.parse_known_args(arguments)
        overrides: list[str] = []
        while rest:
            word = rest.pop(0)
            if not word.startswith("--"):
                raise UserError(f"{self.prog}: unexpected argument {word!r}; see --help")
            if "=" not in word and (not rest or rest[0].startswith("--")):
                raise UserError(self._unknown_option(word))
            text = word[2:] if "=" in word else f"{word[2:]}={rest.pop(0)}"
            name = text.partition("=")[0]
            if "." not in name and name not in FIELDS:
                raise UserError(self._unknown_option(f"--{name}"))
            overrides.append(text)
        return known, overrides

    def _unknown_option(self, option: str) -> str:
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        options = [o for action in shown for o in action.option_strings if o.startswith("--")]
        choices = options + [f"--{field}" for field in FIELDS]
        close = difflib.get_close_matches(option, choices, n=1)
        hint = meant_option(option, options) or (f"did you mean {close[0]}? " if close else "")
        return f"{self.prog}: expected a known option; got {option}; {hint}options: {', '.join(options)}, or --a.b=value for any field of the configuration"


def add_config_options(parser: Parser, *, tracker: bool = True) -> None:
    """Add the options that choose a config, apart from its variant; `tracker=False` leaves out --tracker."""
    parser.add_argument("--scale", default="cpu", metavar="NAME", help=f"{', '.join(scales())} (default: cpu)")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help=f"data set: {', '.join(SLOTS['dataset'].names())}, or the folder of a prepared one (default: the variant's)",
    )
    if tracker:
        parser.add_argument(
            "--tracker",
            metavar="NAMES",
            help="trackers Accelerate knows, separated by commas (default: wandb, offline)",
        )
    parser.add_argument("--runs", metavar="DIR", help="folder of the run directories (default: runs)")


def overrides_from(options: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """Return the overrides, with those of --data, --tracker and --runs. Raises UserError for names not in UTF-8."""
    asked = [] if options.data is None else [f"data={_text('--data', options.data)}"]
    asked += overrides
    if getattr(options, "tracker", None) is not None:
        names = [name for name in options.tracker.split(",") if name not in ("", "none")]
        asked.append(f"compute.tracker={quoted(names)}")
    if options.runs is not None:
        asked.append(f"compute.runs={_text('--runs', options.runs)}")
    return asked


def _text(option: str, value: str) -> str:
    """Return a name as YAML. Raises UserError if it is not UTF-8, which YAML and a database's URL require."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{option}: expected a name in UTF-8; got {value!r}; rename the folder") from None
    return quoted(value)


def as_option(override: str) -> str:
    """Return an override as the equivalent command-line option; --data takes a name, other options take YAML."""
    key, _, value = override.partition("=")
    return f"--data={json.loads(value)}" if key == "data" and value.startswith('"') else f"--{override}"


def choices_text() -> str:
    """Return all variants and scales with a line about each, and all choices of all slots, for `--help`."""
    files = [listed("variants", EXPERIMENTS, variants()), listed("scales", EXPERIMENTS / "scales", scales())]
    lines = [f"  {'loss terms':<13} {', '.join(LOSS_TERMS.names())}"]
    lines += [f"  {slot:<13} {', '.join(registry.names())}" for slot, registry in SLOTS.items()]
    slots = [textwrap.fill(line, 100, subsequent_indent=" " * 16) for line in lines]
    return "\n\n".join([*files, "\n".join(["choices:", *slots])])
