"""The backend made of torch.func and autograd: slow, for any differentiable function, and the oracle of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from latentjac.arguments import check_int
from latentjac.kernels.guards import refuse_differentiated_constants, refuse_dual, refuse_transforms
from latentjac.linearization.adjointness import answer, mismatch, random_like
from latentjac.linearization.agreement import distance, refuse_random
from latentjac.linearization.allocator import is_out_of_memory
from latentjac.linearization.changes import Stamp, modules_of, structure
from latentjac.linearization.export import check_output
from latentjac.linearization.interface import Linearization, check_base, check_rebase, own
from latentjac.linearization.locks import exclusion
from latentjac.linearization.non_finite import raise_if_non_finite
from latentjac.linearization.places import at, line_here, line_of_error
from latentjac.linearization.precision import arithmetic, check_precision
from latentjac.linearization.regions import of_values
from latentjac.linearization.surroundings import ordinary, outside
from latentjac.linearization.ways import (
    Functional,
    NoDerivativeError,
    Taped,
    TapedForward,
    Transposed,
    Way,
    has_derivative,
)

Tensor = torch.Tensor

# How far products may be from adjoint where no way is better: f may compute in any precision inside.
_RELATIVE = 0.05


class _Differentiable(TorchFunctionMode):
    """Makes torch's functions differentiable in both modes, and refuses operators that have no derivative.

    Forward AD of group_norm fails on channels-last inputs on a CPU, so norms get contiguous ones. What attention by the
    math kernel gives lies in memory as from the fused ones, for functions that view it so.
    """

    NORMS = (F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in self.NORMS and args:
            args = (args[0].contiguous(), *args[1:])
        elif isinstance(func, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            _refuse_unknown(func, args)
        returned = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention and returned.ndim == 4:
            returned = returned.transpose(1, 2).contiguous().transpose(1, 2)
        return returned


def _refuse_unknown(func: Any, args: tuple[Any, ...]) -> None:
    op = func if isinstance(func, torch._ops.OpOverload) else getattr(func, func.overloads()[0])
    differentiated = any(isinstance(value, Tensor) and value.requires_grad for value in args)
    if differentiated and not has_derivative(op):
        raise NoDerivativeError(
            f"linearize: f must be differentiable, got {op}, which has no derivative{at(line_here())}"
        )


class _Foreign(TorchFunctionMode):
    """Notes operators that are not torch's own."""

    def __init__(self, found: dict[str, None]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if isinstance(func, torch._ops.OpOverload) and func.namespace not in ("aten", "prims"):
            self._found[f"{func}{at(line_here())}"] = None
        return func(*args, **(kwargs or {}))


@contextmanager
def differentiable() -> Iterator[None]:
    """Make diffusion networks differentiable in both modes: norms contiguous, attention by the math kernel.

    Fused attention has no forward-mode rule in PyTorch. Which kernel is used is a setting of the process, so one thread
    at a time is in here.
    """
    with exclusion.alone(), sdpa_kernel(SDPBackend.MATH), _Differentiable():
        yield


class _FunctionalOnce(Functional):
    """Evaluates the function once a point, and not once a pass."""

    _kept: tuple[Any, Any] | None = None

    def _evaluated(self) -> tuple[Any, Any]:
        if self._kept is None:
            self._kept = super()._evaluated()
        return self._kept


class _TransposedOnce(Transposed, _FunctionalOnce):
    """The same with reverse mode alone."""


_WAYS: tuple[type[Way], ...] = (_FunctionalOnce, _TransposedOnce, Taped, TapedForward)


class AutodiffLinearization(Linearization):
    """``torch.func.jvp`` and ``torch.func.vjp``, vectorized over probes; autograd's tape where these fail."""

    backend = "autodiff"

    def __init__(
        self,
        f: Callable[..., Tensor],
        x: Tensor,
        *constants: Any,
        chunk_size: int | None = None,
        precision: str | None = None,
    ) -> None:
        chunk_size = check_int("linearize", "chunk_size", chunk_size, 1, optional=True)
        check_base("linearize", x)
        precision = check_precision(precision, x)
        if precision == "bf16":
            raise ValueError("linearize: precision must be None, 'fp32' or 'tf32' with torch.func, got 'bf16'")
        self._f, self.precision = f, precision
        self._chunk_size = chunk_size
        self._modules = modules_of(f)
        self._kind: type[Way] | None = None
        self._writes = False
        self._set_base("linearize", x, constants)

    @contextmanager
    def _inside(self, device: torch.device) -> Iterator[None]:
        # The outer no_grad keeps parameters that require grad from recording a second graph.
        with outside(device), torch.no_grad(), differentiable(), arithmetic(self.precision, device):
            yield

    def _set_base(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> None:
        check_base(name, x)
        refuse_transforms(name)
        refuse_differentiated_constants(name, constants)
        with self._inside(x.device):
            x, constants = ordinary(x.detach()).clone(), own(constants)
            plain = tuple(ordinary(value) if isinstance(value, Tensor) else value for value in constants)
            made: tuple[int | None, Stamp] = structure(self._modules), self._stamp()
            y = self._evaluate(name, x, plain)
            again = distance(self._evaluate(name, x, plain), y)
            if not again <= torch.finfo(y.dtype).eps ** 0.5:
                refuse_random(name, again)
            if made[0] != structure(self._modules):  # f changes settings of its modules itself
                made = None, made[1]
            way, kind = (
                self._first_way(x, y, plain) if self._kind is None else (self._way_at(self._kind, x, plain), self._kind)
            )
        self.x, self.y, self._constants, self._way, self._kind, self._made = x, y, constants, way, kind, made

    def _stamp(self) -> Stamp:
        return Stamp(value for module in self._modules for value in (*module.parameters(), *module.buffers()))

    def _refuse_changes(self, name: str) -> None:
        """Both products have to be of one function: what one keeps of the base point, the other evaluates anew."""
        then, stamp = self._made
        if not (stamp.holds() and then in (None, structure(self._modules))):
            raise RuntimeError(
                f"{name}: f must be as it was at the base point, got modules changed or written to since: call rebase"
            )

    def _evaluate(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> Tensor:
        args = _copies((x, *constants))
        before = _versions(args)
        with of_values():
            y = self._f(*args)
        # Each later call is given copies too, so that all see the same values.
        self._writes = self._writes or before != _versions(args)
        check_output(name, y)
        refuse_dual(name, y)
        if y.ndim < 1 or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"{name}: f must return a batch of {x.shape[0]} points in dimension 0, got shape {list(y.shape)}"
            )
        raise_if_non_finite(name, y, self._f, x, *constants)
        return y.detach().clone()

    def _way_at(self, kind: type[Way], x: Tensor, constants: tuple[Any, ...]) -> Way:
        def f(z: Tensor) -> tuple[Tensor]:
            args = _copies((z, *constants)) if self._writes else (z, *constants)
            with of_values():
                return (self._f(*args),)

        return kind(f, [x], self._chunk_size)

    def _first_way(self, x: Tensor, y: Tensor, constants: tuple[Any, ...]) -> tuple[Way, type[Way]]:
        """The first way whose products exist and are adjoint, for one random probe."""
        generator = torch.Generator().manual_seed(0)
        v, reasons, rounded = random_like(x[None], generator), [], None
        eps = max(torch.finfo(t.dtype).eps for t in (x, y))
        for kind in _WAYS:
            try:
                way = self._way_at(kind, x, constants)
                (jv,) = way.push([v])
                u = answer(jv.detach(), generator)
                (jtu,) = way.pull([u])
            except NoDerivativeError:
                raise
            except Exception as error:  # which kinds there are only torch knows
                if is_out_of_memory(error):
                    raise
                reason = str(error).strip().split("\n")[0]
                reasons.append(f"{type(error).__name__}: {reason}{at(line_of_error(error))}")
                continue
            pair = ([u], [jv.detach()], [jtu], [v])
            if mismatch(*pair, eps**0.5, 100 * eps) <= 1:
                return way, kind
            if rounded is None and mismatch(*pair, _RELATIVE, 100 * eps) <= 1:
                rounded = way, kind
            reasons.append("forward and reverse mode are not adjoint")
        if rounded is not None:
            return rounded
        # What the tape says concerns f, and not what torch.func can do.
        raise NoDerivativeError(
            f"linearize: f must be differentiable, got one that torch cannot differentiate: {reasons[2]}"
            f"{self._suspects(x, constants)}"
        )

    def _suspects(self, x: Tensor, constants: tuple[Any, ...]) -> str:
        """What in f declares a derivative, with its lines; evaluates f once more."""
        found: dict[str, None] = {}

        def note(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            found[f"{function.__name__}{at(line_here())}"] = None
            return function(*args)

        with of_values(note), _Foreign(found):
            self._f(*_copies((x, *constants)))
        return "; it calls " + ", ".join(found) if found else ""

    def rebase(self, x: Tensor, *constants: Any) -> None:
        """Move to another base point; see :meth:`Linearization.rebase`."""
        self._set_base("rebase", x, check_rebase(self, x, constants))

    def _again(self, x: Tensor, constants: tuple[Any, ...]) -> AutodiffLinearization:
        return AutodiffLinearization(self._f, x, *constants, chunk_size=self._chunk_size, precision=self.precision)

    def _cost_of_again(self) -> float:
        return 2.0

    def _jvp(self, probes: Tensor) -> Tensor:
        self._refuse_changes("jvp")
        with self._inside(self.x.device):
            return self._way.push([probes])[0].detach()

    def _vjp(self, probes: Tensor) -> Tensor:
        self._refuse_changes("vjp")
        with self._inside(self.x.device):
            return self._way.pull([probes])[0].detach()


def _copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, args)


def _versions(args: tuple[Any, ...]) -> list[int]:
    return [value._version for value in tree_leaves(args) if isinstance(value, Tensor)]
