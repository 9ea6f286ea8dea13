"""The iteration waits for the device once an expansion, and brings nothing there in between."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, with_spectrum
from torch.utils._python_dispatch import TorchDispatchMode

from latentjac.solvers import Krylov, svd
from latentjac.solvers.operator import Products


class Waits(TorchDispatchMode):
    """Counts values that are read off tensors one by one."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts["reads"] += str(op).startswith(("aten._local_scalar_dense", "aten.nonzero", "aten.equal"))
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("points", [1, 3])
def test_one_transfer_an_expansion_and_no_other_wait(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [with_spectrum(SPECTRA["power law"], seed=seed).matrix[0] for seed in range(points)]
    counts: Counter[str] = Counter()
    transfers: list[tuple[int, int, int]] = []
    fetch, tensor = Products.fetch, torch.tensor

    def counting_fetch(self: Products, values: torch.Tensor) -> Any:
        transfers.append((self.passes, counts["reads"], counts["uploads"]))
        return fetch(self, values)

    def counting_tensor(*args: Any, **kwargs: Any) -> torch.Tensor:
        # The text "cpu" is asked for on the host; a device is that of the operator, here a processor's too.
        counts["uploads"] += isinstance(kwargs.get("device"), torch.device)
        return tensor(*args, **kwargs)

    monkeypatch.setattr(Products, "fetch", counting_fetch)
    monkeypatch.setattr(torch, "tensor", counting_tensor)
    with Waits(counts):
        svd(MatrixOperator(torch.stack(matrices)), k=20, tol=1e-6, solver=Krylov(block_size=4))
    # Until the first point is done, which has to be told to the device.
    transfers = transfers[: len(transfers) // 2]
    assert len(transfers) > 5
    assert transfers == [(2 + 2 * i, 0, 0) for i in range(len(transfers))]
