"""What is told of errors, and of options that cannot be read."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from x2c.core.arguments import whole_number
from x2c.core.errors import FileError, UserError, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("the loss\n  is not finite"), "ValueError: the loss is not finite"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (UserError("--data: no such folder"), "UserError: --data: no such folder"),
        (FileError(Path("/a.png"), "not a picture"), "UserError: /a.png: not a picture"),
    ],
)
def test_a_reason_is_one_line_that_tells_what_a_user_can_mend_from_the_rest(error, reason):
    assert reason_of(error) == reason


def test_an_option_takes_whole_numbers_from_the_least_on():
    assert [whole_number(0)("0"), whole_number(1)("12")] == [0, 12]


@pytest.mark.parametrize(
    ("least", "text"), [(1, "0"), (0, "-1"), (0, "1.5"), (0, ""), (0, "two"), (0, "\N{SUPERSCRIPT TWO}")]
)
def test_other_texts_are_refused_with_what_was_expected(least, text):
    with pytest.raises(ArgumentTypeError) as caught:
        whole_number(least)(text)
    assert str(caught.value) == f"expected a whole number, {least} or more; got {text!r}"
