"""Checks of arguments tell numbers from truth values, which Python takes for one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latentjac.arguments import check_bool, check_int, check_number


@pytest.mark.parametrize("value", [True, False, np.bool_(True)])
@pytest.mark.parametrize("check", [check_int, check_number])
def test_a_truth_value_is_no_number(check: Callable, value: Any) -> None:
    with pytest.raises(TypeError, match=r"f: k must be an? (int|number), got bool"):
        check("f", "k", value)


@pytest.mark.parametrize("value", [0, 1, 1.0, np.int64(1), None, "yes"])
def test_a_number_is_no_truth_value(value: Any) -> None:
    with pytest.raises(TypeError, match="f: progress must be a bool, got"):
        check_bool("f", "progress", value)


def test_numbers_of_numpy_are_numbers() -> None:
    assert check_int("f", "k", np.int64(3)) == 3
    assert type(check_int("f", "k", np.int64(3))) is int
    assert type(check_number("f", "tol", np.float32(0.5))) is float
    assert type(check_bool("f", "progress", np.bool_(False))) is bool
