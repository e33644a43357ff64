"""A sweep on W&B's own engine: the same file, registered with its server, and agents of this machine.

The server chooses the cells and hands them to agents, which start `x2c/train.py` with a cell's parameters as options.
The command line's settings (scale, seeds, data, fields) go into the registered copy as parameters of one value: they
reach every agent's command line, on any machine, and are shown in W&B's table. Run folders are the same as Optuna's:
finished cells are not run again, and a cell that W&B counts as done though it failed is run by `--engine optuna`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from x2c.core import weights
from x2c.core.config import Config
from x2c.core.errors import UserError
from x2c.core.given import Unquoted, read_value
from x2c.core.resolve import read_yaml
from x2c.core.script import PROJECT
from x2c.core.stopping import install_signal_handlers
from x2c.sweep.plan import cells as planning
from x2c.sweep.plan.cells import Plan, make_plan, read_sweep
from x2c.sweep.plan.devices import Device, crew_for, environment
from x2c.sweep.plan.schema import Sweep
from x2c.sweep.plan.space import flat
from x2c.sweep.run.agent_command import check_command
from x2c.sweep.run.grid import conclude
from x2c.sweep.run.local import WATCH_SECONDS
from x2c.sweep.run.processes import stop_all
from x2c.sweep.show.tables import View, plan_table, snapshots, wide_console

HERE = "leave engine=optuna, which needs no server"
TAIL = 5


def run_on_wandb(
    name: str,
    scale: str,
    seeds: Sequence[int] | None,
    overrides: Sequence[str],
    workers: int | None,
    reports: Callable[[Plan], Path | None],
) -> int:
    """Register a sweep with W&B and run agents until it ends; return 0 if no agent failed.

    `reports` returns the folder for the tables and pictures of a plan.

    Raises UserError, before anything is registered, for any error that would stop a run, and without an account.
    """
    install_signal_handlers()
    began = time.time()
    sweep = read_sweep(name)
    refuse(sweep)
    plan = make_plan(name, scale, seeds, overrides)
    if "wandb" not in plan.compute.tracker:
        raise UserError(f"--tracker: W&B's engine learns of runs by the tracker wandb; keep it, or {HERE}")
    asked = registered(sweep, scale, seeds, overrides)
    check_command(plan, asked)
    for config in plan.configs:
        weights.check(config)
    check_login()
    needs = [config.compute for config in plan.configs]
    # No cell of a search is known here: W&B's server draws them.
    size, devices = crew_for(workers, needs, None if plan.cells else sweep.run_cap)
    out = wide_console()
    if plan.cells:
        out.print(plan_table(plan, plan.cells, snapshots(plan.cells)))
    path = register(asked, plan.compute.project)
    agents = Agents(path, sweep, scale, plan.configs[0], size, devices)
    try:
        agents.start()
        follow(agents, plan, began)
    finally:
        agents.stop()
    failures = agents.failures()
    for failure in failures:
        out.print(failure, markup=False, highlight=False)
    if plan.cells:
        return conclude(plan, plan.cells, reports(plan), began)
    out.print(f"{name}: the runs are in {plan.runs}/, the search is {path} at W&B", highlight=False)
    return 1 if failures else 0


def refuse(sweep: Sweep) -> None:
    """Raise UserError for a sweep that W&B's engine would not run as the file says."""
    where = f"sweeps/{sweep.name}.yaml"
    if sweep.program is None:
        raise UserError(f"{where}: program: W&B's agents need one; got none; add program: x2c/train.py")
    if sweep.conditions is not None:
        raise UserError(f"sweeps/search/{sweep.name}.yaml: W&B's engine knows no conditions; {HERE}")
    for key, value in (("job", sweep.job), ("image_uri", sweep.image_uri)):
        if value is not None:
            raise UserError(
                f"{where}: {key}: W&B Launch would run it from a queue; got {value!r}; remove it, or {HERE}"
            )
    kind = (sweep.controller or {}).get("type", "cloud")
    if kind != "cloud":
        raise UserError(
            f"{where}: controller.type: W&B's server is to choose the runs; got {kind!r}; remove it, or {HERE}"
        )


def check_login() -> None:
    """Raise UserError if W&B's server cannot be used: offline mode, or no key in environment, settings or netrc."""
    import wandb

    mode = wandb.setup().settings.mode
    if mode not in ("online", "shared"):
        raise UserError(
            f"--engine: wandb needs W&B's server; W&B is in mode {mode}; set WANDB_MODE=online and WANDB_API_KEY, "
            f"or {HERE}"
        )
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            f"--engine: wandb needs W&B's server and a key; got none; set WANDB_API_KEY (or `wandb login`), or {HERE}"
        )


def registered(
    sweep: Sweep, scale: str, seeds: Sequence[int] | None, overrides: Iterable[str], folder: Path | None = None
) -> dict[str, Any]:
    """Return the sweep file as registered: with the command line in its parameters, its program as seen from `folder`.

    `folder` is where agents are started, by default the current one.
    """
    raw = read_yaml(planning.SWEEPS / f"{sweep.name}.yaml")
    # Flat: nested options would become Python's text of a mapping, and a field beside them could not be set.
    parameters = {**dict(flat(raw["parameters"])), "scale": {"value": scale}}
    if seeds is not None:
        parameters["seed"] = {"value": seeds[0]} if len(seeds) == 1 else {"values": list(seeds)}
    for override in overrides:
        key, _, text = override.partition("=")
        _refuse_parent(key, sweep)
        parameters[key] = {"value": _as_value(key, text)}
    for key, value in sweep.defaults.items():
        parameters.setdefault(key, {"value": value})
    program = os.path.relpath(PROJECT / str(sweep.program), folder or Path.cwd())
    title = raw.get("name", f"{sweep.name} {scale}")
    return {**raw, "name": title, "program": program, "parameters": parameters}


def register(config: Mapping[str, Any], project: str) -> str:
    """Register a sweep; return its path `entity/project/id`, without the entity if it is the account's own.

    `project` is used if neither the file nor WANDB_PROJECT has one.
    """
    import wandb

    entity = config.get("entity") or os.environ.get("WANDB_ENTITY")
    project = config.get("project") or os.environ.get("WANDB_PROJECT") or project
    try:
        number = wandb.sweep(dict(config), entity=entity, project=project)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--engine: wandb: the server did not take the sweep: {text}; or {HERE}") from None
    return "/".join(filter(None, (entity, project, number)))


class Agents:
    """W&B agents as processes of this machine, each with a log beside those of Optuna's workers."""

    def __init__(
        self, path: str, sweep: Sweep, scale: str, config: Config, size: int, devices: Sequence[Device] = ()
    ) -> None:
        self.command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", path]
        self.size, self.devices = size, devices
        self.runs = Path(config.compute.runs).resolve()
        name = f"{sweep.name}-{socket.gethostname()}-{os.getpid()}-agent"
        self.logs = [self.runs / "logs" / f"{name}-{number}.log" for number in range(1, size + 1)]
        self.environment = {
            **os.environ,
            # The agent runs the first `python` for `${interpreter}`: this one, whether activated or not.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "WANDB_DIR": str(self.runs),
            "WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", f"{sweep.name}-{scale}"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all agents."""
        for number, log in enumerate(self.logs):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                # A session of its own: Ctrl-C reaches only this process, which asks the agents to stop.
                self.processes.append(
                    subprocess.Popen(
                        self.command,
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=stream,
                        env={**self.environment, **environment(number, self.devices)},
                        start_new_session=True,
                    )
                )

    def alive(self) -> bool:
        """Whether any agent runs."""
        return any(process.poll() is None for process in self.processes)

    def failures(self) -> list[str]:
        """Return a line for each agent that ended with an error: its exit code and its last lines."""
        ended = zip(self.processes, self.logs, strict=False)
        return [
            f"agent ended with code {process.returncode}: {_tail(log)}  [{log}]"
            for process, log in ended
            if process.returncode
        ]

    def stop(self) -> None:
        """Ask the agents to stop their runs, then kill those that do not."""
        stop_all(self.processes)


def follow(agents: Agents, plan: Plan, began: float) -> None:
    """Wait for the agents; meanwhile show the cells, if they are known."""
    if not plan.cells:
        _until(lambda: not agents.alive())
        return
    with View(plan, plan.cells, agents.size, began) as view:

        def ended() -> bool:
            view.update()
            return not agents.alive()

        _until(ended)
        view.update()


def _until(ended: Callable[[], bool]) -> None:
    while not ended():
        time.sleep(WATCH_SECONDS)


def _refuse_parent(key: str, sweep: Sweep) -> None:
    """Raise UserError for a field above one that varies: W&B sorts options by name, and the override would lose."""
    for name in sweep.parameters:
        if name.startswith(f"{key}."):
            raise UserError(f"--{key}: {name} varies in the sweep, and W&B's engine would let it win; give --{name}")


def _as_value(key: str, text: str) -> Any:
    """Return an override's value in a form whose `str` reads the same: a number as a number, else the text."""
    value = given = read_value(text)
    if isinstance(given, Unquoted):
        value = given.value
    plain = isinstance(value, bool | int | float | str)
    # --data takes a name, other options take YAML.
    again = value if key == "data" else read_value(str(value))
    return value if plain and (again == given or str(again) == value) else text


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join([line for line in lines if line.strip()][-TAIL:])
