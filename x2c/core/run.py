"""Run ids and run directories."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from x2c.core.config import Config, identity
from x2c.core.errors import UserError
from x2c.core.files import digest, locked, read_json, write_text

FORMAT_VERSION = 2
State = Literal["running", "done", "failed"]


def run_id(config: Config, data_fingerprint: str) -> str:
    """`<variant>-<scale>-s<seed>-<12 hex>`: equal ids mean equal results."""
    key = digest({"config": identity(config), "data": data_fingerprint, "format": FORMAT_VERSION})
    return f"{config.variant}-{config.scale}-s{config.seed}-{key}"


class RunDirectory:
    """`runs/<run id>/`: every file in it is whole; scores count when the state is `done`.

    Of the processes that train one run together, all but the main one get it with `writes` off.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.scores = path / "scores.parquet"
        self.samples = path / "samples"

    @contextmanager
    def owned(self, patience_seconds: float = 1.0) -> Iterator[None]:
        """Be the only process that writes here. Raises UserError when another one is, and stays for that long.

        Readers probe the lock for an instant, so some patience is always needed.
        """
        if not self.writes:
            yield
            return
        with locked(self.path / ".lock", patience_seconds=patience_seconds) as free:
            if not free:
                raise UserError(f"{self.path.name}: another process is running it; wait for it or stop it")
            yield

    def status(self) -> dict[str, Any]:
        """What status.json says; empty before the run began."""
        return read_json(self.path / "status.json") or {}

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
        self.write("status.json", {**status, "seconds_left": seconds_left, "updated": time.time()})

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
                stream.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop what metrics.jsonl says of steps after `step`: a resumed run says it again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            # A killed process may leave half a line at the end; it is of a step that is run again.
            whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
            self._write_text("metrics.jsonl", "".join(line for line in whole if json.loads(line)["step"] <= step))

    def _write_text(self, name: str, text: str) -> None:
        if self.writes:
            write_text(self.path / name, text)
