"""Checks of a preparation's folders before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from x2c.core.errors import UserError


def check_folders(root: Path, out: Path, key_folder: Path) -> None:
    """Raise UserError if there is no data, or if prepared data and their key would not be kept apart from it."""
    if not root.is_dir():
        raise UserError(f"--root: no folder {root}; give the folder of the data as downloaded or exported")
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError("--out: lies in --root, among the patients' files; give another folder")
    if key_folder.resolve().is_relative_to(out.resolve()):
        raise UserError("--key: lies in --out, which can be given away; give a folder that stays with you")
