"""Checks that a run got the parameters that W&B's agent chose for it.

A sweep's `command` decides which parameters reach the command line, and in which form. A parameter that is missing
there or arrives with another value is an error: the run would train something else than W&B's table says.
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
"""The environment variable with which the agent names the file of a run's parameters."""
OWN = "_wandb"
"""Key of W&B's own notes on a run. When W&B resumes a run, they are among the parameters, as is the whole config."""
LOCAL_PATH = "(local path)"
"""Stands for paths of this machine in what is sent to trackers; W&B returns it when it resumes a run."""


def parameters(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that W&B's agent chose for this run, by name; empty if no agent started it."""
    path = Path(environment.get(FILE, ""))
    entries = read_yaml(path) if path.is_file() else {}
    given = {name: entry["value"] for name, entry in entries.items() if isinstance(entry, dict) and "value" in entry}
    return {name: value for name, value in given.items() if name != OWN and value != LOCAL_PATH}


def refuse_unsaid(given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raise UserError for a parameter that is not on the command line as `--name=value` or `--name value`."""
    apart = {first for first, second in pairwise(words) if not second.startswith("--")}
    for name, value in given.items():
        if f"--{name}" not in apart and not any(word.startswith(f"--{name}=") for word in words):
            raise UserError(
                f"{name}: expected --{name}={value} from W&B's agent; got a command line without it; "
                "write ${args} in the sweep's command"
            )


def refuse_changed(given: Mapping[str, Any], options: Namespace, overrides: Sequence[str], config: Config) -> None:
    """Raise UserError for a parameter whose value differs from the one in the config of the command line."""
    for name, value in given.items():
        if hasattr(options, name):
            same = str(getattr(options, name)) == str(value)
        else:
            same = next(_with(name, value, options, overrides), None) == config
        if not same:
            raise UserError(
                f"{name}: expected {value!r} from W&B's agent; got another value on the command line; "
                f"give it once, and such that --{name}={value} says it"
            )


def _with(name: str, value: Any, options: Namespace, overrides: Sequence[str]) -> Iterator[Config]:
    """Yield the config with the parameter set to its value; a list may be text, as it is when W&B resumes a run."""
    for text in (json.dumps(value), str(value)):
        try:
            yield resolve(options.variant, options.scale, options.seed, [*overrides, f"{name}={text}"])
        except UserError:
            continue
