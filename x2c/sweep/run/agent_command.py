"""Check of a sweep file's `command`, with which W&B's agents start runs, before the sweep is registered.

The command is expanded as the agent does it, for every value of every parameter and both ends of every range, and
parsed as `x2c/train.py` parses it. A command is refused if it runs another program, if train.py does not accept it,
or if it would train another config than Optuna's engine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from x2c.core.config import Config
from x2c.core.errors import UserError, nearest
from x2c.core.script import PROJECT
from x2c.sweep.plan.cells import Plan, config_of, extremes
from x2c.train_command import parse

PROGRAM = PROJECT / "x2c/train.py"
READ = ("env", "interpreter", "program", "args", "args_no_equals", "args_no_boolean_flags")
"""W&B's macros whose output train.py can read. It reads no booleans without a value; each value is checked for that."""
OTHERS = ("args_no_hyphens", "args_json", "args_json_file", "args_dict", "args_append_hydra", "args_override_hydra")
"""W&B's other macros."""
PYTHON_OPTIONS = ("-u", "-B")
ENVIRONMENT_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
ASSIGNMENT = re.compile(r"(?!(PATH|PYTHONPATH|PYTHONHOME)=)\w+=")
"""Variables that `env` may set: none that starts another Python, or another x2c."""


def check_command(plan: Plan, registered: Mapping[str, Any]) -> None:
    """Raise UserError if agents would not train the configs that Optuna's engine trains for the same sweep.

    `registered` is the sweep as sent to W&B's server: the file with the command line in its parameters.
    """
    where = f"sweeps/{plan.sweep.name}.yaml: command"
    command: list[Any] = registered.get("command") or [f"${{{name}}}" for name in READ[:4]]
    refuse_macros(command, where)
    if Path(registered["program"]).resolve() != PROGRAM:
        raise UserError(
            f"sweeps/{plan.sweep.name}.yaml: program: expected x2c/train.py; got {plan.sweep.program}; write that"
        )
    fixed = {name: axis["value"] for name, axis in registered["parameters"].items() if "value" in axis}
    seed, *_ = registered["parameters"].get("seed", {}).get("values", [fixed.get("seed", 0)])
    for chosen in extremes(plan.sweep, seed):
        # The server sends the parameters sorted.
        values = {name: fixed.get(name, chosen.get(name)) for name in sorted(registered["parameters"])}
        given = {name: _sent(name, value, where) for name, value in values.items()}
        arguments = arguments_of(expanded(command, registered["program"], given), where)
        try:
            options, config = parse(arguments, given)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if options.check:
            raise UserError(f"{where}: --check: train.py would print the config and run nothing; remove it")
        _compare(config_of(chosen, plan.scale, plan.overrides), config, where)


def refuse_macros(command: Sequence[Any], where: str) -> None:
    """Raise UserError for a macro that the agent or train.py does not know, and for a variable that is not set."""
    for word in map(str, command):
        for name in ENVIRONMENT_VARIABLE.findall(word):
            if name not in os.environ:
                raise UserError(
                    f"{where}: ${{envvar:{name}}}: no such environment variable; export it before, or write its value"
                )
        rest = ENVIRONMENT_VARIABLE.sub("", word)
        macro = rest[2:-1] if rest.startswith("${") and rest.endswith("}") else None
        if macro in OTHERS:
            raise UserError(f"{where}: {rest}: train.py reads options, --name=value, and nothing else; write ${{args}}")
        if "${" in rest and macro not in READ:
            raise UserError(
                f"{where}: {word}: W&B's agent knows no such macro; {nearest(rest, [f'${{{m}}}' for m in READ])}"
            )


def expanded(command: Sequence[Any], program: str, values: Mapping[str, Any]) -> list[str]:
    """Return the words that W&B's agent starts for these parameters, as `wandb.wandb_agent.Agent` makes them."""
    from wandb.sdk.launch.sweeps import utils

    # The agent replaces the environment's variables in the list that it is given.
    words = utils.create_sweep_command(list(command))
    known = {
        **utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}}),
        "interpreter": ["python"],
        "program": [program],
        "env": ["/usr/bin/env"],
    }
    found: list[str] = []
    for word in map(str, words):
        found += known.get(word[2:-1], []) if word.startswith("${") and word.endswith("}") else [word]
    return found


def arguments_of(words: Sequence[str], where: str) -> list[str]:
    """Return the arguments after the program. Raises UserError for a program other than train.py, or another Python."""
    for word in words:
        if "\0" in word:
            raise UserError(f"{where}: {word!r}: no program can be started with the character \\0; remove it")
    rest = iter(words)
    word = next(rest, "")
    if Path(word).name == "env":
        word = next((word for word in rest if not ASSIGNMENT.match(word)), "")
    if not is_this_python(word):
        raise UserError(
            f"{where}: {word or 'nothing'}: expected this environment's Python, {sys.executable}; "
            "write ${interpreter}, which is python"
        )
    word = next(rest, "")
    while word.startswith("-") and word in PYTHON_OPTIONS:
        word = next(rest, "")
    if word.startswith("-") or Path(word).resolve() != PROGRAM:
        raise UserError(
            f"{where}: {word or 'nothing'}: expected x2c/train.py after the interpreter; write ${{program}}"
        )
    arguments = list(rest)
    if not {"-h", "--help"}.isdisjoint(arguments):
        raise UserError(f"{where}: --help: train.py would print its options and run nothing; remove it")
    return arguments


def is_this_python(word: str) -> bool:
    """Whether a word of an agent's command runs the current Python; agents search PATH for it."""
    folder = Path(sys.executable).parent
    found = shutil.which(word, path=os.pathsep.join([str(folder), os.environ.get("PATH", "")]))
    if found is None:
        return False
    path, this = Path(found), Path(sys.executable)
    return path.resolve() == this.resolve() and path.parent.resolve() == folder.resolve()


def _sent(name: str, value: Any, where: str) -> Any:
    """Return a value as it comes back from the server."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise UserError(
            f"{where.removesuffix('command')}parameters.{name}: W&B takes what JSON can say; got {value!r}; "
            "write it in quotes"
        ) from None


def _compare(ours: Config, theirs: Config, where: str) -> None:
    """Raise UserError for the first field in which the two engines' configs differ."""
    if ours == theirs:
        return
    other = dict(_fields(theirs.model_dump(mode="json")))
    for name, value in _fields(ours.model_dump(mode="json")):
        if other.get(name) != value:
            raise UserError(
                f"{where}: {name}: W&B's agents would train with {other.get(name)!r}, Optuna's engine with {value!r}; "
                "set it among the parameters, or in neither"
            )
    raise UserError(
        f"{where}: W&B's agents would train another config than Optuna's engine; write ${{args}} and no options"
    )


def _fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
