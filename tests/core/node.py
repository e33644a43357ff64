"""A process as one of a machine whose file locks no other machine sees: `python node.py NAME PROGRAM ARGUMENTS…`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import runpy
import sys
from pathlib import Path

from x2c.core import machine


def become(name: str, locks: Path) -> None:
    """Give this process a boot id and locks that it shares with those of the same name only."""
    boot = locks / name / "boot_id"
    boot.parent.mkdir(parents=True, exist_ok=True)
    boot.write_text(name)
    machine.BOOT_ID = boot
    machine.machine.cache_clear()
    flock = fcntl.flock
    shadows = dict[int, int]()

    def private(file, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        about = os.fstat(descriptor)
        key = hashlib.sha256(f"{about.st_dev} {about.st_ino}".encode()).hexdigest()
        shadow = os.open(locks / name / key, os.O_RDWR | os.O_CREAT)
        try:
            flock(shadow, operation)
        except OSError:
            os.close(shadow)
            raise
        # Locks end with the file: here with the next that has its number.
        if (old := shadows.get(descriptor)) is not None:
            os.close(old)
        shadows[descriptor] = shadow

    fcntl.flock = private


if __name__ == "__main__":
    become(sys.argv[1], Path(os.environ["X2C_TEST_LOCKS"]))
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
