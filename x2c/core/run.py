"""Run ids and run directories."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from x2c.core import fence, stopping
from x2c.core.checked import UnreadableError, one_line
from x2c.core.config import Config
from x2c.core.errors import UserError, reason_of
from x2c.core.file_lease import SECONDS, FileLease, Holder, is_held, seems_held
from x2c.core.files import digest, sync, temporary_beside, write_text, written_by, written_here
from x2c.core.identity import identity
from x2c.core.listening import Pruned
from x2c.core.status import STATUS, State, read_status

FORMAT_VERSION = 4
STATUS_SECONDS = 60.0
"""Upper bound in seconds on the time to write status.json."""
ELSEWHERE_SECONDS = 3600.0
"""Upper bound in seconds on the time in which another machine writes a file."""
_TOLD_NOTHING: dict[str, Any] = {
    "phase": "",
    "step": 0,
    "steps": 0,
    "reason": None,
    "seconds_left": None,
    "starts": 0,
    "updated": 0.0,
}
"""Fields of a status with their default values."""
UNREADABLE = "unreadable"
"""State of a run whose status.json cannot be used: it is run again, from its newest checkpoint."""


def run_id(config: Config, data_fingerprint: str) -> str:
    """Return `<variant>-<scale>-s<seed>-<12 hex>`: equal ids mean equal results."""
    return run_name(config, run_identity(config, data_fingerprint))


def run_name(config: Config, made_from: dict[str, Any]) -> str:
    """Return the id of a run with the identity `made_from` (see `run_identity`), which includes its seed."""
    return f"{config.variant}-{config.scale}-s{made_from['config']['seed']}-{digest(made_from)}"


def run_identity(config: Config, data_fingerprint: str) -> dict[str, Any]:
    """Return the values that a run's id is the hash of; readers derive the id again from those in provenance.json."""
    return {"config": identity(config), "data": data_fingerprint, "format": FORMAT_VERSION}


class RunDirectory:
    """`runs/<run id>/`: every file in it is whole; scores count when the state is `done`.

    If several processes train one run, all but the main one get it with `writes=False`.
    """

    def __init__(self, path: Path, *, writes: bool = True, lease_seconds: float = SECONDS) -> None:
        self.path = path
        self.writes = writes
        self.lease_seconds = lease_seconds
        self.starts = 0

    # Computed when needed: a plan has tens of thousands of these.
    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, `step-<step>` each."""
        return self.path / "checkpoints"

    @property
    def lease(self) -> Path:
        """Folder of the lease of the process that writes here."""
        return self.path / ".lease"

    @property
    def scores(self) -> Path:
        """The scores of the test volumes, one row each."""
        return self.path / "scores.parquet"

    @property
    def samples(self) -> Path:
        """Folder of the volumes that were kept."""
        return self.path / "samples"

    @contextmanager
    def owned(self, patience_seconds: float = 1.0) -> Iterator[None]:
        """Be the only process that writes here, on any machine. Raises UserError if another one is, for longer than
        `patience_seconds`.

        Raises LeaseLost at the next write if the lease expired and another process holds it now.
        """
        if not self.writes:
            yield
            return
        lease = FileLease(self.lease, self.path.name, self.lease_seconds)
        with lease.held(patience_seconds, certain=True) as mine:
            if not mine:
                raise UserError(
                    f"{self.path.name}: another process is running it ({lease.other}); wait for it or stop it"
                )
            self._clear(lease.others)
            # Written by the next `report()`; inspecting a finished run does not count as a start.
            self.starts = int(self.status().get("starts", 0)) + 1
            yield

    @property
    def held(self) -> bool:
        """Whether a living process holds its lease, as far as this process can tell by now."""
        return is_held(self.lease)

    def status(self) -> dict[str, Any]:
        """Return status.json, each field of `Status` in its type; empty before the run began.

        If the file cannot be used, the state is `unreadable` and the reason says why. A power cut can leave it empty,
        which counts as not begun.
        """
        path = self.path / STATUS
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            return {}
        try:
            found = read_status(self.path)
        except UnreadableError as error:
            return {"state": UNREADABLE, **_TOLD_NOTHING, "reason": str(error)}
        told: dict[str, Any] = one_line(found.model_dump(include={"state", *_TOLD_NOTHING}, exclude_none=True))
        return {**_TOLD_NOTHING, **told, "step": int(told.get("step", 0)), "steps": int(told.get("steps", 0))}

    def now(self) -> dict[str, Any]:
        """Return the status, with `interrupted` if it says `running` and no living process holds the lease."""
        # The lease first: a run that ends between the two reads then counts as ended, not as interrupted.
        alive = seems_held(self.lease)
        status = self.status()
        lost = status.get("state") == "running" and not alive
        return {**status, "state": "interrupted"} if lost else status

    @property
    def done(self) -> bool:
        """Whether the run has finished successfully."""
        return self.status().get("state") == "done"

    def report(
        self,
        state: State,
        phase: str,
        step: int = 0,
        steps: int = 0,
        *,
        reason: str | None = None,
        seconds_left: float | None = None,
    ) -> None:
        """Write status.json."""
        status = {"state": state, "phase": phase, "step": step, "steps": steps, "reason": reason}
        status |= {
            "seconds_left": seconds_left,
            "starts": self.starts or self.status().get("starts", 0),
            "updated": time.time(),
            # A file for people with the same content.
            "updated_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Written twice a second during a run: only a final state must reach the disk.
        self._write_text(STATUS, json.dumps(status, indent=2) + "\n", durable=state != "running")

    def report_end(self, error: BaseException) -> None:
        """Write how a run that `error` ends has ended, and at which step: interrupted, pruned or failed.

        Any error after a request to stop counts as an interrupt: code that a signal hits may raise anything.
        """
        status = self.status()
        place = status.get("phase") or "prepare", status.get("step", 0), status.get("steps", 0)
        if stopping.requested_signal() or not isinstance(error, Exception):
            self.report("interrupted", *place)
        else:
            self.report("pruned" if isinstance(error, Pruned) else "failed", *place, reason=reason_of(error))

    def write_config(self, config: Config) -> None:
        """Write config.yaml, the resolved config."""
        values = config.model_dump(mode="json", exclude_none=True)
        self._write_text("config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file such as provenance.json."""
        self._write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        if self.writes:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
                # A successor replaces the file: the open one is either this process's own, or no longer in place.
                fence.check()
                stream.write(json.dumps(record) + "\n")

    def logged(self, name: str) -> list[tuple[int, float]]:
        """Return steps and values of a number in metrics.jsonl, in the order in which they were logged."""
        path = self.path / "metrics.jsonl"
        records = [json.loads(line) for line in _whole_lines(path)] if path.exists() else []
        return [(int(record["step"]), float(record[name])) for record in records if name in record]

    def forget_after(self, step: int) -> None:
        """Remove the lines of metrics.jsonl after `step`: a resumed run logs them again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            self._write_text("metrics.jsonl", "".join(kept))

    def sync_log(self) -> None:
        """Wait until metrics.jsonl is on the disk: a checkpoint must not be newer than the lines before it."""
        if self.writes and (self.path / "metrics.jsonl").exists():
            sync(self.path / "metrics.jsonl")

    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return max(map(step_of, self.checkpoints.glob("step-*")), default=0)

    def _clear(self, owners: list[Holder]) -> None:
        """Remove files that a former owner was writing: if it is only suspended, it has nothing to put in place."""
        for left in list(self.path.rglob(".*.tmp")):
            with contextlib.suppress(FileNotFoundError):
                age = max(0.0, time.time() - left.stat().st_mtime)
                if age < _respite_seconds(left, owners):
                    continue
                # In one step, since a folder cannot be removed at once: it would be put in place half empty.
                forsaken = left.rename(temporary_beside(left))
                if forsaken.is_dir():
                    shutil.rmtree(forsaken, ignore_errors=True)
                else:
                    forsaken.unlink()

    def _write_text(self, name: str, text: str, *, durable: bool = True) -> None:
        if self.writes:
            write_text(self.path / name, text, durable=durable)


def step_of(checkpoint: Path) -> int:
    """The step after which `checkpoints/step-<step>` was written."""
    return int(checkpoint.name.removeprefix("step-"))


def _respite_seconds(left: Path, owners: list[Holder]) -> float:
    """Return for how many seconds someone else may yet put a temporary file in place."""
    if any(written_by(left, owner.machine, owner.pid) for owner in owners):
        return 0.0
    if not written_here(left):
        return ELSEWHERE_SECONDS
    # A supervisor records the end of a worker.
    return STATUS_SECONDS if left.name.startswith(f".{STATUS}") else 0.0


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log up to the first that a killed process, or a power cut, left unfinished."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.endswith("}\n"):
                return
            yield line
