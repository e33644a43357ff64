"""What is said of a CT or a radiograph before it is trained on."""

from __future__ import annotations

from typing import Literal

Remark = tuple[Literal["warning", "excluded"], str]
"""Whether it stays in the data set, and why one might wonder."""
