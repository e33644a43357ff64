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
"""No one takes as long to write status.json."""
ELSEWHERE_SECONDS = 3600.0
"""On another machine no one takes as long to write a file."""
_TOLD_NOTHING: dict[str, Any] = {
    "phase": "",
    "step": 0,
    "steps": 0,
    "reason": None,
    "seconds_left": None,
    "starts": 0,
    "updated": 0.0,
}
"""Fields of a status, with what stands for those that are not told."""
UNREADABLE = "unreadable"
"""State of a run whose status.json cannot be used: it is run again, from its newest checkpoint."""


def run_id(config: Config, data_fingerprint: str) -> str:
    """`<variant>-<scale>-s<seed>-<12 hex>`: equal ids mean equal results."""
    return run_name(config, run_identity(config, data_fingerprint))


def run_name(config: Config, made_from: dict[str, Any]) -> str:
    """The id of a run that is made from `made_from`, as `run_identity` says it; its seed is the one in there."""
    return f"{config.variant}-{config.scale}-s{made_from['config']['seed']}-{digest(made_from)}"


def run_identity(config: Config, data_fingerprint: str) -> dict[str, Any]:
    """What a run's id is the hash of. A run keeps it in provenance.json, so that readers can derive the id again."""
    return {"config": identity(config), "data": data_fingerprint, "format": FORMAT_VERSION}


class RunDirectory:
    """`runs/<run id>/`: every file in it is whole; scores count when the state is `done`.

    Of the processes that train one run together, all but the main one get it with `writes` off.
    """

    def __init__(self, path: Path, *, writes: bool = True, lease_seconds: float = SECONDS) -> None:
        self.path = path
        self.writes = writes
        self.lease_seconds = lease_seconds
        self.starts = 0

    # Named when they are asked for: a plan has tens of thousands of these.
    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, `step-<step>` each."""
        return self.path / "checkpoints"

    @property
    def lease(self) -> Path:
        """Folder of the lease that whoever writes here has."""
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
        """Be the only process that writes here, on whatever machine. Raises UserError when another one is, and stays so long.

        And LeaseLost, at the next write, when this process was not heard of for the length of its lease and another has
        taken its place.
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
            # Told with the next report: looking at a finished run is no start.
            self.starts = int(self.status().get("starts", 0)) + 1
            yield

    @property
    def held(self) -> bool:
        """Whether a living process has it, as far as this one can tell by now."""
        return is_held(self.lease)

    def status(self) -> dict[str, Any]:
        """What status.json says, each field of `Status` in its type; empty before the run began.

        Of one that cannot be used the state is `unreadable`, and the reason says why. A power cut can leave it empty: as if
        the run had not begun.
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
        """The status, `interrupted` where it says `running` and no living process has its lease."""
        # The lease first: a run that ends in between then reads as ended, not as interrupted.
        alive = seems_held(self.lease)
        status = self.status()
        lost = status.get("state") == "running" and not alive
        return {**status, "state": "interrupted"} if lost else status

    @property
    def done(self) -> bool:
        """Whether the run has ended well."""
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
            # The same for people.
            "updated_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Twice a second while it runs: only what ends a run is worth waiting for the disk.
        self._write_text(STATUS, json.dumps(status, indent=2) + "\n", durable=state != "running")

    def report_end(self, error: BaseException) -> None:
        """Write how a run that `error` ends has ended, where it stood: interrupted, pruned or failed.

        Whatever is raised after a request to stop is an interrupt: what the signal hit may have raised anything.
        """
        status = self.status()
        place = status.get("phase") or "prepare", status.get("step", 0), status.get("steps", 0)
        if stopping.asked() or not isinstance(error, Exception):
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
                # Whoever takes this one's place replaces the file: what is open is either its own, or no one's any more.
                fence.ask()
                stream.write(json.dumps(record) + "\n")

    def logged(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of a number in metrics.jsonl, in the order in which they were logged."""
        path = self.path / "metrics.jsonl"
        records = [json.loads(line) for line in _whole_lines(path)] if path.exists() else []
        return [(int(record["step"]), float(record[name])) for record in records if name in record]

    def forget_after(self, step: int) -> None:
        """Drop what metrics.jsonl says of steps after `step`: a resumed run says it again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            self._write_text("metrics.jsonl", "".join(kept))

    def sync_log(self) -> None:
        """Wait until metrics.jsonl is on the disk: a checkpoint does not outlive the lines before it."""
        if self.writes and (self.path / "metrics.jsonl").exists():
            sync(self.path / "metrics.jsonl")

    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0 where there is none."""
        return max(map(step_of, self.checkpoints.glob("step-*")), default=0)

    def _clear(self, owners: list[Holder]) -> None:
        """Remove what a former owner was about to write: asleep rather than dead, it would find nothing to put in place."""
        for left in list(self.path.rglob(".*.tmp")):
            with contextlib.suppress(FileNotFoundError):
                age = max(0.0, time.time() - left.stat().st_mtime)
                if age < _respite_seconds(left, owners):
                    continue
                # At once, as a folder cannot be removed: it would be put in place half empty.
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
    """For how long someone else may yet be about to put a temporary file in place."""
    if any(written_by(left, owner.machine, owner.pid) for owner in owners):
        return 0.0
    if not written_here(left):
        return ELSEWHERE_SECONDS
    # A supervisor records the end of a worker.
    return STATUS_SECONDS if left.name.startswith(f".{STATUS}") else 0.0


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a log up to the first that a killed process, or a power cut, left unfinished."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.endswith("}\n"):
                return
            yield line
