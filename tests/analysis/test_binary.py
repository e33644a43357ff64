"""Outcomes and scores in the forms that users have them: torch's tensors, and what is no array of numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from analysis.stats.binary import outcomes, scores
from analysis.stats.delong import auc, paired_test
from analysis.stats.operating_point import youden

Y, S = [0, 0, 1, 1, 0, 1], [0.1, 0.4, 0.35, 0.8, 0.2, 0.5]
FORM = re.compile(r"^s: expected [^;]+; got [^;]+; [^;]+$", re.DOTALL)


class OnAnotherDevice:
    """A tensor that, as one on a GPU, is an array only after `cpu`."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def detach(self) -> OnAnotherDevice:
        return OnAnotherDevice(self.values.detach())

    def cpu(self) -> torch.Tensor:
        assert not self.values.requires_grad
        return self.values


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.tensor(S, requires_grad=True),
        lambda: torch.tensor(S, dtype=torch.bfloat16),
        lambda: torch.tensor(S, dtype=torch.bfloat16, requires_grad=True),
        lambda: torch.tensor(S, dtype=torch.float16),
        lambda: torch.tensor(S, requires_grad=True).sigmoid(),
        lambda: torch.nn.Parameter(torch.tensor(S)),
        lambda: torch.tensor(S, dtype=torch.float8_e4m3fn),
        lambda: OnAnotherDevice(torch.tensor(S, requires_grad=True)),
        lambda: list(torch.tensor(S, requires_grad=True)),
        lambda: [torch.tensor(s, dtype=torch.bfloat16) for s in S],
    ],
)
def test_tensors_are_taken_as_their_numbers(made: Callable[[], torch.Tensor]) -> None:
    # The order of the cases is the same in every precision and after a sigmoid, hence the area.
    assert auc(torch.tensor(Y), made()).auc == auc(Y, S).auc
    assert paired_test(Y, made(), made()).p == 1
    assert youden(Y, made()) == youden(Y, scores("s", made()).tolist())


def test_a_tensor_keeps_its_values_to_the_bit() -> None:
    values = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    np.testing.assert_array_equal(scores("s", values), values.detach().numpy())
    half = torch.rand(50, generator=torch.Generator().manual_seed(0)).bfloat16()
    np.testing.assert_array_equal(scores("s", half), half.double().numpy())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_outcomes_are_tensors_of_any_kind(dtype: torch.dtype) -> None:
    assert outcomes("y", torch.tensor(Y).to(dtype)).tolist() == [bool(y) for y in Y]
    assert outcomes("y", torch.tensor([0.0, 1.0], requires_grad=True)).tolist() == [False, True]


@pytest.mark.parametrize(
    "value",
    [
        torch.empty(3, device="meta"),
        torch.tensor([0.1, 0.2]).to_sparse(),
        torch.tensor([1j, 2]),
        torch.rand(3, 2, requires_grad=True),
        torch.tensor(0.5, requires_grad=True),
        torch.tensor([]),
        torch.tensor([0.1, float("nan")], requires_grad=True),
        [torch.rand(2), torch.rand(3)],
        [[0.1], [0.2, 0.3]],
        [0.1, [0.2]],
        [10**400, 1],
        [object(), 1],
        ["high", "low"],
        {"a": 0.1},
        {0.1, 0.2},
        None,
        (s for s in S),
        "0.5",
        [None, 0.1],
        np.ma.masked_array(S, [1, 0, 0, 0, 0, 0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_array_of_numbers_is_refused_in_words(value: object) -> None:
    for read in (scores, outcomes):
        with pytest.raises(ValueError, match=r"^s: expected") as error:
            read("s", value)
        assert FORM.match(str(error.value)), str(error.value)


def test_torch_is_not_imported_for_it() -> None:
    code = "import sys, analysis.stats.delong, analysis.stats.paired; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
