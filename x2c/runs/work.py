"""Whether someone is at work on a run or a stage, here or on another machine that shares the folder."""

from __future__ import annotations

import json
import time
from pathlib import Path

from x2c.core.files import is_locked
from x2c.core.machine import machine
from x2c.core.run import RunDirectory

SILENCE_SECONDS = 600.0
"""Another machine's process that reported or beat its heart so recently is taken to be alive: its locks do not reach here."""


def at_work(folder: Path) -> str:
    """What tells that a process works on a run or stage; empty where nothing does."""
    run = RunDirectory(folder)
    claim = folder.parent / ".claims" / folder.name
    if is_locked(run.lock):
        return "a process holds its lock"
    if is_locked(claim):
        return "a worker of a sweep has claimed it"
    if _elsewhere(_text(claim), "worker") and _silence(claim) < SILENCE_SECONDS:
        return f"a worker on another machine has claimed it, last heard of {_silence(claim):.0f} s ago"
    updated = run.status().get("updated")
    recent = isinstance(updated, int | float) and time.time() - updated < SILENCE_SECONDS
    if run.status().get("state") == "running" and recent and _elsewhere(_text(run.lock)):
        return "a process on another machine has reported from it in the last minutes"
    return ""


def _elsewhere(text: str, field: str = "") -> bool:
    """Whether a lock's or a claim's text names another machine as its holder."""
    if field:
        try:
            text = str(json.loads(text)[field])
        except (ValueError, LookupError, TypeError):
            return False
    return bool(text) and not text.startswith(f"{machine()}:")


def _silence(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
