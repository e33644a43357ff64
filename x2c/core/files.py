"""Files that are whole or absent, locks that die with their process, and folders that are computed once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from x2c.core import fence
from x2c.core.errors import UserError
from x2c.core.machine import holder, machine
from x2c.core.waiting import Wait

TEMPORARY = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp(?=/|$)")
"""Suffix of temporary names: machine, process id, and a random part, since containers have equal ids."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems that do not support locks."""
STALE_SECONDS = 7 * 86400.0
"""Seconds after which a build that another machine left behind is taken to be killed: no build takes as long."""


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`: moved to `path` when the block ends without an error, removed otherwise.

    The file gets the mode that the umask gives.

    After a power cut there is the old file or the new one; with `durable=False`, perhaps an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        open_up(temporary)
        if durable:
            sync(temporary)
        fence.check()
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return a unique hidden path beside `path`: machines may share a folder and not see each other's locks."""
    return path.with_name(f".{path.name}.{_here()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def written_here(temporary: Path) -> bool:
    """Whether a temporary path was named on this machine since it was last started."""
    ending = TEMPORARY.search(temporary.name)
    return ending is not None and ending[1] == _here()


def written_by(temporary: Path, of_machine: str, pid: int) -> bool:
    """Whether a temporary path was named by that process of that machine."""
    ending = TEMPORARY.search(temporary.name)
    return ending is not None and ending.groups() == (digest(of_machine, 8), str(pid))


def _here() -> str:
    # Host names may contain dots, and one may be the beginning of another.
    return digest(machine(), 8)


def open_up(path: Path) -> None:
    """Give others the access to a file, or to all files of a folder, that the umask allows: some libraries do not."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        mode = stat.S_IMODE(file.lstat().st_mode)
        if not mode & 0o077 and file.is_file() and not file.is_symlink():
            file.chmod(mode | (0o666 & ~_umask()))


def _umask() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("Umask:")[2].split()[0], 8)
    except (OSError, IndexError, ValueError):
        # The umask can only be read by setting it.
        mask = os.umask(0o077)
        os.umask(mask)
        return mask


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to a file, or a copy if the file system does not support links."""
    try:
        # A link to a relative symbolic link would point elsewhere from here.
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` so that a reader sees either the old file or the new one."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value of a file; None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def digest(value: Any, length: int = 12) -> str:
    """Hex digits of the SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(path: Path, *, patience_seconds: float = math.inf, holder: str | None = None) -> Iterator[bool]:
    """Hold an exclusive lock on `path`; yields False if it stays taken for longer than `patience_seconds`.

    The kernel releases the lock when the process ends, however it ends. `holder` (`<machine>:<process id>`) is written
    into the file; processes that wait long report it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline, wait = time.monotonic() + patience_seconds, Wait(path)
    while True:
        with path.open("a") as handle:
            if _try_lock(handle.fileno(), path):
                if holder is not None:
                    # On a full disk, a lock without a holder's name is still a lock.
                    with contextlib.suppress(OSError):
                        os.ftruncate(handle.fileno(), 0)
                        os.write(handle.fileno(), holder.encode())
                yield True
                return
        if time.monotonic() >= deadline:
            yield False
            return
        wait.look()
        time.sleep(0.05)


def is_locked(path: Path) -> bool:
    """Whether a living process of this machine holds the lock on a file."""
    try:
        with path.open() as handle:
            # Shared, so that readers do not block one another; it is released when the file closes.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def break_lock(path: Path) -> None:
    """Release `path` from any holder: a copy replaces the file, and nobody holds a lock on the copy."""
    temporary = temporary_beside(path)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(path, temporary)
        os.replace(temporary, path)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A lock on a file that has been replaced meanwhile excludes nobody.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f"{path}: expected a file system with file locks; got {error.strerror}; mount it with locks, which may be "
            "each machine's own (Lustre: -o localflock, NFS: -o local_lock=flock), or give a folder elsewhere"
        ) from None


def build_once(folder: Path, build: Callable[[Path], object]) -> Path:
    """Return `folder`, built by `build(temporary folder)` unless it exists.

    Processes that want the same folder wait for the first; a killed build leaves nothing that looks finished. Machines
    that do not see each other's locks each build it, and the first to finish puts its own in place.
    """
    if folder.exists():
        return folder
    with locked(folder.with_name(f".{folder.name}.lock"), holder=holder()):
        if folder.exists():
            return folder
        _remove_killed_builds(folder)
        temporary = temporary_beside(folder)
        temporary.mkdir(parents=True)
        try:
            build(temporary)
            open_up(temporary)
            sync_tree(temporary)
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(folder.parent)
    return folder


def _remove_killed_builds(folder: Path) -> None:
    """Remove what killed builds of `folder` left; its lock is held, so no other process of this machine builds it."""
    for left in folder.parent.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            of_this = TEMPORARY.sub("", left.name) == f".{folder.name}"
            if of_this and (written_here(left) or time.time() - left.stat().st_mtime > STALE_SECONDS):
                shutil.rmtree(left)


def _put_in_place(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:
        # Another machine, which does not see our lock, was first.
        if not folder.exists():
            raise
