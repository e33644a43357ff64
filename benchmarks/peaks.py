"""Memory that a computation takes, counted by its storages: on tensors without content nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Storages(TorchDispatchMode):
    """Bytes of the storages that live, and the most there were at a time."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.live = self.peak = 0
        self._known = set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.count(value.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count a storage from now on, once, for as long as it lives."""
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


def peak_gib(computation: Callable[[], Any], *loaded: nn.Module) -> float:
    """The most memory, GiB, that tensors made by a computation take at a time, beside those of networks that are there."""
    storages = _Storages()
    for network in loaded:
        for tensor in (*network.parameters(), *network.buffers()):
            storages.count(tensor.untyped_storage())
    with storages:
        computation()
    return storages.peak / 2**30
