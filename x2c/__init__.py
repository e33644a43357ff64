"""x2c: the ablation laboratory for X-ray to CT diffusion models.

    import x2c

    model = x2c.train("l1", scale="cpu")           # or x2c.load("l1"), of a finished run
    made = model.sample("image.png", samples=8)    # volumes in HU, their mean and SD
    made.save("volume.nii.gz")
    x2c.list_runs(), x2c.scores()                  # pandas DataFrames

x2c/api.py documents all of it. Importing this package takes no time: what a name needs is imported with its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2c.api import Model, Samples, from_pretrained, list_runs, load, scores, train
    from x2c.core.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "Model",
    "Samples",
    "UserError",
    "__version__",
    "from_pretrained",
    "list_runs",
    "load",
    "scores",
    "train",
]


def __getattr__(name: str) -> Any:
    """Called by Python for a name that is not imported yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("x2c.core.errors" if name == "UserError" else "x2c.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
