"""Check whether a process works on a run or a stage, on this or another machine that shares the folder."""

from __future__ import annotations

import json
import time
from pathlib import Path

from x2c.core.file_lease import seems_held
from x2c.core.files import is_locked
from x2c.core.machine import machine
from x2c.core.run import RunDirectory

SILENCE_SECONDS = 600.0
"""Seconds since a heartbeat up to which another machine's worker counts as alive: its locks are not seen here."""


def at_work(folder: Path) -> str:
    """Return the sign that a process works on a run or stage; empty if none does."""
    claim = folder.parent / ".claims" / folder.name
    if seems_held(RunDirectory(folder).lease):
        return "a process has its lease"
    if is_locked(claim):
        return "a worker of a sweep has claimed it"
    if _is_elsewhere(claim) and _silence(claim) < SILENCE_SECONDS:
        return f"a worker on another machine has claimed it, last heartbeat {_silence(claim):.0f} s ago"
    return ""


def _is_elsewhere(claim: Path) -> bool:
    """Return whether a claim names another machine as its holder."""
    try:
        worker = str(json.loads(claim.read_text(encoding="utf-8", errors="replace"))["worker"])
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return bool(worker) and not worker.startswith(f"{machine()}:")


def _silence(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")
