"""SHA-256 of large files with a cache in the user's home, and lists of them in the format of `sha256sum`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.files import file_digest, write_json, write_text

REMEMBERED_BYTES = 8 * 2**20
"""Files below this size in bytes are hashed each time: it takes milliseconds."""
SUMS = "SHA256SUMS"


def sha256(path: Path, *, fresh: bool = False) -> str:
    """SHA-256 of a file's bytes. A large file's is cached until its size or time changes; `fresh` skips the cache."""
    state = path.stat()
    if state.st_size < REMEMBERED_BYTES:
        return file_digest(path)
    key, stamp = str(path.resolve()), [state.st_size, state.st_mtime_ns]
    *known, digest = _memory().get(key, [None])
    if fresh or known != stamp:
        digest = file_digest(path)
        _remember(key, [*stamp, digest])
    return str(digest)


def read_sums(folder: Path) -> dict[str, str]:
    """Digests by path relative to `folder`, from its SHA256SUMS; empty without one. Raises UserError on a bad line."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if match is None:
            raise UserError(
                f"{path}:{number}: expected 64 hex digits, two blanks and a path; got {line[:80]!r}; "
                "write it with `sha256sum` or `python -m x2c.weights --record`"
            )
        sums[os.path.normpath(match[2])] = match[1].lower()
    return sums


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write the folder's SHA256SUMS; `sha256sum --check` reads it."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def _memory_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "x2c" / "digests.json"


def _memory() -> dict[str, list[int | str]]:
    """Return the cached digests; empty if the cache cannot be read."""
    try:
        content = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {path: entry for path, entry in content.items() if isinstance(entry, list) and len(entry) == 3}


def _remember(key: str, entry: list[int | str]) -> None:
    """Write a digest to the cache; if that fails (read-only home), the next call hashes again."""
    there = {path: old for path, old in _memory().items() if Path(path).exists()}
    with suppress(OSError):
        write_json(_memory_file(), {**there, key: entry})
