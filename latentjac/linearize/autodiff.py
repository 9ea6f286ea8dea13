"""The backend made of torch.func: slow, works for any differentiable function, and the oracle of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from latentjac.linearize.interface import Linearization, check_base
from latentjac.linearize.non_finite import raise_if_non_finite
from latentjac.linearize.precision import arithmetic, check_precision


class _ContiguousNorms(TorchFunctionMode):
    """Gives norms contiguous inputs: forward AD of group_norm fails on channels-last ones on a CPU."""

    NORMS = (F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in self.NORMS and args:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


@contextmanager
def differentiable() -> Iterator[None]:
    """Make diffusion networks differentiable in both modes: norms contiguous, attention by the math kernel.

    Fused attention has no forward-mode rule in PyTorch.
    """
    with sdpa_kernel(SDPBackend.MATH), _ContiguousNorms():
        yield


class AutodiffLinearization(Linearization):
    """``torch.func.jvp`` and ``torch.func.vjp``, vectorized over probes with ``vmap``."""

    backend = "autodiff"

    def __init__(
        self,
        f: Callable[..., torch.Tensor],
        x: torch.Tensor,
        *constants: torch.Tensor,
        chunk_size: int | None = None,
        precision: str | None = None,
    ) -> None:
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(f"linearize: chunk_size must be a positive int or None, got {chunk_size!r}")
        check_base("linearize", x)
        check_precision(precision, x)
        if precision == "bf16":
            raise ValueError("linearize: precision must be None, 'fp32' or 'tf32' with torch.func, got 'bf16'")
        self._f, self.precision = f, precision
        self._chunk_size = chunk_size
        self._set_base("linearize", x, constants)

    def _set_base(self, name: str, x: torch.Tensor, constants: tuple[torch.Tensor, ...]) -> None:
        check_base(name, x)
        x = x.detach().clone()
        # The outer no_grad keeps parameters that require grad from recording a second graph.
        with torch.no_grad(), differentiable(), arithmetic(self.precision, x.device):
            y, pull = cast("tuple[Any, Any]", torch.func.vjp(lambda z: self._f(z, *constants), x))
        if not isinstance(y, torch.Tensor):
            raise TypeError(f"{name}: f must return one torch.Tensor, got {type(y).__name__}")
        if y.ndim < 1 or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"{name}: f must return a batch of {x.shape[0]} points in dimension 0, got shape {list(y.shape)}"
            )
        raise_if_non_finite(name, y, self._f, x, *constants)
        self.x, self.y, self._constants, self._pull = x, y.detach(), constants, pull

    def rebase(self, x: torch.Tensor, *constants: torch.Tensor) -> None:
        """Move to another base point; see :meth:`Linearization.rebase`."""
        if not isinstance(x, torch.Tensor) or x.shape != self.x.shape or x.dtype != self.x.dtype:
            got = f"{list(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(f"rebase: x must be {list(self.x.shape)} {self.x.dtype}, got {got}")
        if constants and len(constants) != len(self._constants):
            raise ValueError(f"rebase: constants must be {len(self._constants)} values or none, got {len(constants)}")
        self._set_base("rebase", x, constants or self._constants)

    def _again(self, x: torch.Tensor, constants: tuple[Any, ...]) -> AutodiffLinearization:
        return AutodiffLinearization(self._f, x, *constants, chunk_size=self._chunk_size, precision=self.precision)

    def _cost_of_again(self) -> float:
        return 2.0

    def _jvp(self, probes: torch.Tensor) -> torch.Tensor:
        def push(v: torch.Tensor) -> torch.Tensor:
            return torch.func.jvp(lambda z: self._f(z, *self._constants), (self.x,), (v,))[1]

        with torch.no_grad(), differentiable(), arithmetic(self.precision, self.x.device):
            return torch.func.vmap(push, chunk_size=self._chunk_size)(probes)

    def _vjp(self, probes: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), differentiable(), arithmetic(self.precision, self.x.device):
            return torch.func.vmap(lambda u: self._pull(u)[0], chunk_size=self._chunk_size)(probes)
