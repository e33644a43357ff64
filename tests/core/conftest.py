"""The places that tests put copies of weights in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from copies import CONTENT, sha

from x2c.core.weights import WEIGHTS
from x2c.weights import main


@pytest.fixture
def published(monkeypatch) -> None:
    """CONTENT is what the hub publishes as kl_f8."""
    known = {name: sha(content) for name, content in CONTENT.items()}
    monkeypatch.setitem(WEIGHTS, "kl_f8", replace(WEIGHTS["kl_f8"], sha256=known))


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """An empty folder, named by X2C_WEIGHTS."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("X2C_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """`python -m x2c.weights` with arguments: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["weights", *arguments])
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return run
