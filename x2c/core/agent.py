"""What W&B's agent was given for the run that it starts, beside the command line that it starts it with.

A sweep's `command` decides which parameters reach the command line, and in which form. One that does not arrive as the
value it has is an error: the run would train something else than W&B's table says.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.resolve import read_yaml, resolve

FILE = "WANDB_SWEEP_PARAM_PATH"
"""The environment variable by which the agent names the file with a run's parameters."""
OWN = "_wandb"
"""W&B's notes on a run. Of a run that it resumes, they are among the parameters, as the whole config is."""
LOCAL_PATH = "(local path)"
"""Stands for paths of this machine in what trackers are told; W&B hands it out again when it resumes a run."""


def parameters(environment: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that W&B's agent was given for this run, by name; empty where no agent has started it."""
    path = Path(environment.get(FILE, ""))
    entries = read_yaml(path) if path.is_file() else {}
    given = {name: entry["value"] for name, entry in entries.items() if isinstance(entry, dict) and "value" in entry}
    return {name: value for name, value in given.items() if name != OWN and value != LOCAL_PATH}


def refuse_unsaid(given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raise UserError for a parameter that the command line does not say as `--name=value` or `--name value`."""
    apart = {first for first, second in pairwise(words) if not second.startswith("--")}
    for name, value in given.items():
        if f"--{name}" not in apart and not any(word.startswith(f"--{name}=") for word in words):
            raise UserError(
                f"{name}: expected --{name}={value} from W&B's agent; got a command line without it; "
                "write ${args} in the sweep's command"
            )


def refuse_changed(given: Mapping[str, Any], options: Namespace, overrides: Sequence[str], config: Config) -> None:
    """Raise UserError for a parameter whose value is another in the config that the command line stands for."""
    for name, value in given.items():
        if hasattr(options, name):
            same = str(getattr(options, name)) == str(value)
        else:
            same = next(_with(name, value, options, overrides), None) == config
        if not same:
            raise UserError(
                f"{name}: expected {value!r} from W&B's agent; got another value by the command line; "
                f"give it once, and such that --{name}={value} says it"
            )


def _with(name: str, value: Any, options: Namespace, overrides: Sequence[str]) -> Iterator[Config]:
    """The config with a parameter at its value; a list may be text, as it is where W&B resumes a run."""
    for text in (json.dumps(value), str(value)):
        try:
            yield resolve(options.variant, options.scale, options.seed, [*overrides, f"{name}={text}"])
        except UserError:
            continue
