"""A progress bar for a solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from latentjac.solvers.outcome import SolverState

Callback = Callable[[SolverState], Any]


@contextmanager
def shown(callback: Callback | None, progress: bool, total: int) -> Iterator[Callback | None]:
    """The callback, with a bar of converged triplets beside it if progress is asked for."""
    if not progress:
        yield callback
        return
    with tqdm(total=total, desc="svd", unit="triplet") as bar:

        def watch(state: SolverState) -> Any:
            bar.n = state.converged
            bar.set_postfix(passes=state.passes, residual=f"{state.residuals.max().item():.1e}")
            return callback(state) if callback is not None else None

        yield watch
