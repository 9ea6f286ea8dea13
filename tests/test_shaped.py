"""Results show the shapes of their tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class Result(Shaped):
    value: Any
    hidden: int = field(default=1, repr=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.zeros(2, 3), "[2, 3]"),
        (torch.tensor(0.12345), "0.1235"),
        (torch.tensor(0.5, device="meta"), "[]"),
        ((torch.zeros(2), torch.zeros(3)), "2 x Tensor"),
        ([1.0, 2.0], "[1.0, 2.0]"),
        (None, "None"),
        ("text", "'text'"),
    ],
)
def test_a_value_is_shown(value: Any, shown: str) -> None:
    assert repr(Result(value)) == f"Result(value={shown})"
