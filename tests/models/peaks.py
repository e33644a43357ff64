"""Memory that a computation would take, counted on the meta device: nothing is computed, every storage is seen."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Storages(TorchDispatchMode):
    """Bytes of the storages that live, and the most there were at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def peak_gib(computation: Callable[[], Any]) -> float:
    """The most memory, GiB, that tensors made by a computation take at a time."""
    storages = _Storages()
    with storages:
        computation()
    return storages.peak / 2**30
