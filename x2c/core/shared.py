"""Permission problems in folders that several users share, and their remedy."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path


def kept_out(root: Path, *names: str) -> str:
    """One line on the folder, or the one of `names` in it, that this process cannot write to; empty if it can."""
    paths = (root, *(root / name for name in names))
    return next((_sentence(path, root) for path in paths if os.path.exists(path) and not _usable(path)), "")


def denial(error: PermissionError) -> str:
    """Return one line on the file that this process may not use, its owner, and what to set."""
    named = error.filename2 if isinstance(error.filename2, str | os.PathLike) else error.filename
    if not isinstance(named, str | os.PathLike):
        return f"expected to be allowed; got {error}"
    path = _culprit(Path(os.path.abspath(os.fsdecode(named))))
    if _usable(path):
        return f"{path}: expected to be allowed to use it; got {error.strerror}"
    return _sentence(path, path if path.is_dir() else path.parent)


def _culprit(path: Path) -> Path:
    """Return the file if it exists and cannot be used; otherwise the nearest existing folder."""
    if os.path.exists(path) and not _usable(path):
        return path
    return next(parent for parent in path.parents if os.path.exists(parent))


def _usable(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def _sentence(path: Path, root: Path) -> str:
    about = path.stat()
    me, owner = _name(os.geteuid()), _name(about.st_uid)
    got = f"{path}: expected a {'folder' if path.is_dir() else 'file'} that {me} may read and write; got one of {owner}"
    mode = f"mode {stat.S_IMODE(about.st_mode):04o}"
    if me == owner:
        return f"{got} with {mode}; run `chmod -R u+rwX {root}`"
    return (
        f"{got} with {mode} and group {_group(about.st_gid)}; to share {root}, let {owner} run `chmod -R g+ws {root}`, "
        "after `chgrp -R` to a group that both are in, and everyone set `umask 002`"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
