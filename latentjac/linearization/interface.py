"""What every linearization offers: checked products with the Jacobian and its transpose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from latentjac import stopping
from latentjac.arguments import FLOATING, check_dense, check_generator, check_int, check_sequence, shown
from latentjac.kernels.guards import (
    refuse_differentiated,
    refuse_differentiated_constants,
    refuse_tracing,
    refuse_transforms,
)
from latentjac.linearization.precision import spacing
from latentjac.recording import Recorder

if TYPE_CHECKING:
    import scipy.sparse.linalg


class Linearization(ABC):
    """The Jacobian J of ``y = f(x)`` at a base point, as a linear operator.

    Dimension 0 of ``x`` and ``y`` is a batch of B independent points, so J is block diagonal and one
    probe carries one tangent for each point.

    Attributes:
        x: Base point ``[B, ...]``.
        y: ``f(x)``, ``[B, ...]``.
        backend: Which implementation computes the products.
        precision: In which arithmetic; None for that of x.

    Example:
        >>> lin = latentjac.linearize(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
        >>> lin.jvp(torch.ones(1, 1, 2))
        tensor([[[2., 4.]]])
    """

    backend: str
    x: torch.Tensor
    y: torch.Tensor
    _constants: tuple[Any, ...]

    precision: str | None = None

    @property
    def eps(self) -> float:
        """Relative rounding error of the products."""
        return spacing(self.precision, self.x.dtype, self.x.device)

    @abstractmethod
    def _jvp(self, probes: torch.Tensor) -> torch.Tensor:
        """Products for probes that were checked."""

    @abstractmethod
    def _vjp(self, probes: torch.Tensor) -> torch.Tensor:
        """Transposed products for probes that were checked."""

    @abstractmethod
    def _again(self, x: torch.Tensor, constants: tuple[Any, ...]) -> Linearization:
        """The same function linearized elsewhere, with the same options."""

    @abstractmethod
    def _cost_of_again(self) -> float:
        """What that costs, in vectors through the Jacobian of all points."""

    @abstractmethod
    def rebase(self, x: torch.Tensor, *constants: torch.Tensor) -> None:
        """Move to another base point of the same shapes.

        Args:
            x: New base point, shape and dtype of the old one.
            *constants: New values of the other arguments of f; none keeps the old ones.

        Raises:
            TypeError: If a constant is of another kind than the first one in its place.
            ValueError: If the shape or dtype of x or the number of constants differ from the first ones, or f gives
                different values at one point.
        """

    def at(self, x: torch.Tensor, *constants: Any) -> Linearization:
        """The same function linearized at another point; this linearization stays where it is.

        Args:
            x: Base point, shape and dtype of this one's.
            *constants: Other arguments of f; none takes those of this one.

        Returns:
            A linearization of its own, which shares the trace where there is one.

        Raises:
            TypeError: See :meth:`rebase`.
            ValueError: See :meth:`rebase`.
        """
        return self._again(x, check_rebase(self, x, constants, "at"))

    def __copy__(self) -> Linearization:
        return self.at(self.x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Linearization:
        return self.at(self.x)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "Linearization: pickle must not be used, since traces belong to one process: "
            "send the function and x, and call linearize there"
        )

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        """Tangents J v of k probes.

        Args:
            v: Probes ``[k, *x.shape]``, dtype and device of x.

        Returns:
            ``[k, *y.shape]``.

        Raises:
            ValueError: If the shape, dtype or device is not that of a block of tangents.
            RuntimeError: If v takes part in differentiation, which would silently end here, or is being traced.
        """
        check_probes("jvp", "v", v, self.x)
        stopping.check()
        return self._jvp(v.detach())

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        """Cotangents J^T u of k probes.

        Args:
            u: Probes ``[k, *y.shape]``, dtype and device of y.

        Returns:
            ``[k, *x.shape]``.

        Raises:
            ValueError: If the shape, dtype or device is not that of a block of cotangents.
            RuntimeError: If u takes part in differentiation, which would silently end here, or is being traced.
        """
        check_probes("vjp", "u", u, self.y)
        stopping.check()
        return self._vjp(u.detach())

    def restrict(self, points: Sequence[int]) -> Linearization:
        """The linearization at some of the points alone.

        Tensors among the constants whose dimension 0 has the size of the batch are taken to hold one entry a point.

        Args:
            points: Distinct indices into dimension 0 of x, ascending.

        Returns:
            A linearization at ``x[points]``; a trace for as many points is kept for the next call.

        Raises:
            TypeError: If points is not a sequence of ints.
            ValueError: If the indices are not as above, or if f, called for these points alone, gives another y.
        """
        points = [check_int("restrict", "points", p) for p in check_sequence("restrict", "points", points, "ints")]
        if points != sorted(set(points)) or not 0 <= points[0] <= points[-1] < len(self.x):
            raise ValueError(f"restrict: points must be ascending indices in [0, {len(self.x)}), got {shown(points)}")
        constants = tuple(_entries(value, len(self.x), points) for value in self._constants)
        kept, expected = self._restriction(self.x[points], constants), self.y[points]
        difference = (kept.y - expected).abs().max().item() if kept.y.shape == expected.shape else float("inf")
        # The order of sums may change with the size of the batch.
        if not difference <= 1e4 * torch.finfo(self.y.dtype).eps * expected.abs().max().item():
            raise ValueError(f"restrict: f must treat points independently, got a y that differs by {difference:.1e}")
        return kept

    def _restriction(self, x: torch.Tensor, constants: tuple[Any, ...]) -> Linearization:
        """The same function at some of the points."""
        return self._again(x, constants)

    def restriction_cost(self, count: int) -> float:
        """What :meth:`restrict` to as many points costs, in vectors through the Jacobian of all points.

        An estimate from the operations of f, so that it is the same on every run.

        Raises:
            TypeError: If count is not an int.
            ValueError: If there are not so many points.
        """
        check_int("restriction_cost", "count", count, 1, len(self.x))
        return self._cost_of_again()

    @property
    def leaving_cost(self) -> float:
        """As :meth:`restriction_cost`, but the same whatever was restricted before: by this svd decides."""
        return self._cost_of_again()

    def prepare(self, probes: int) -> None:
        """Get ready for passes over so many probes, so that the first ones are no slower than all others.

        Records them where passes are recorded (CUDA graphs); elsewhere there is nothing to do.

        Args:
            probes: k of the ``jvp`` and ``vjp`` to come.

        Raises:
            TypeError: If it is not an int.
            ValueError: If it is not positive.
        """
        check_int("prepare", "probes", probes, 1)

    def recorder(self) -> Recorder | None:
        """What records work between passes where passes are recorded (CUDA graphs), a new one; None elsewhere."""
        return None

    def check_adjoint(self, generator: torch.Generator | None = None) -> float:
        """Relative disagreement of ``<u, J v>`` and ``<J^T u, v>`` for one random pair.

        Returns:
            ``|<u, Jv> - <J^T u, v>| / (|u| |Jv|)``; 0 where J v vanishes. Near the rounding unit if both
            passes are right.

        Raises:
            TypeError: If generator is none of torch's.
            ValueError: If it is not one of the CPU.
        """
        check_generator("check_adjoint", generator)
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(f"check_adjoint: generator must be one of the CPU, got one on {generator.device}")
        v, u = (
            torch.randn(1, *like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)
            for like in (self.x, self.y)
        )
        jv, jtu = self.jvp(v).double(), self.vjp(u).double()
        scale = (u.double().norm() * jv.norm()).item()
        difference = ((u.double() * jv).sum() - (jtu * v.double()).sum()).abs().item()
        return difference / scale if scale else difference

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """The Jacobian as a SciPy ``LinearOperator`` of shape (m, n), for one base point.

        Raises:
            ValueError: If there is more than one base point.
            ImportError: If SciPy is not installed.
        """
        if self.x.shape[0] != 1:
            raise ValueError(f"to_scipy: x must hold one base point (dimension 0 = 1), got {self.x.shape[0]}")
        from scipy.sparse.linalg import LinearOperator

        m, n = self.y.numel(), self.x.numel()

        def columns(product: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor) -> Callable[[Any], Any]:
            def apply(matrix: Any) -> Any:
                block = torch.as_tensor(matrix, dtype=like.dtype, device="cpu").reshape(like.numel(), -1).T
                out = product(block.reshape(-1, *like.shape).to(like.device).contiguous())
                rows = out.reshape(len(out), -1).T.cpu().numpy()
                return rows if matrix.ndim == 2 else rows[:, 0]

            return apply

        forward, backward = columns(self.jvp, self.x), columns(self.vjp, self.y)
        dtype = torch.empty(0, dtype=self.x.dtype, device="cpu").numpy().dtype
        return LinearOperator((m, n), forward, backward, forward, rmatmat=backward, dtype=dtype)

    def __repr__(self) -> str:
        x, y = list(self.x.shape), list(self.y.shape)
        return f"{type(self).__name__}(x {x} -> y {y}, {self.x.dtype}, {self.x.device}, backend={self.backend!r})"


def _entries(value: Any, batch: int, points: list[int]) -> Any:
    per_point = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == batch
    return value[points] if per_point else value


def check_probes(name: str, argument: str, probes: torch.Tensor, like: torch.Tensor) -> None:
    """Raise unless ``probes`` is a block ``[k, *like.shape]`` with the dtype and device of ``like``."""
    if not isinstance(probes, torch.Tensor):
        raise TypeError(f"{name}: {argument} must be a torch.Tensor, got {type(probes).__name__}")
    refuse_tracing(name)
    refuse_differentiated(name, **{argument: probes})
    if probes.device != like.device:
        raise ValueError(f"{name}: {argument} must be on {like.device}, got {probes.device}")
    check_dense(name, argument, probes)
    if probes.ndim != like.ndim + 1 or probes.shape[1:] != like.shape or len(probes) == 0:
        expected = ", ".join(["k >= 1", *map(str, like.shape)])
        raise ValueError(f"{name}: {argument} must have shape [{expected}], got {list(probes.shape)}")
    if probes.dtype != like.dtype:
        raise ValueError(f"{name}: {argument} must have dtype {like.dtype}, got {probes.dtype}")


def check_rebase(
    lin: Linearization, x: torch.Tensor, constants: tuple[Any, ...], name: str = "rebase"
) -> tuple[Any, ...]:
    """The constants at another base point; raise unless that point and they can follow those of a linearization."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: x must be a torch.Tensor, got {type(x).__name__}")
    refuse_differentiated(name, x=x)
    if x.device != lin.x.device:
        raise ValueError(f"{name}: x must be on {lin.x.device}, got {x.device}")
    check_dense(name, "x", x)
    if x.shape != lin.x.shape or x.dtype != lin.x.dtype:
        raise ValueError(f"{name}: x must be {list(lin.x.shape)} {lin.x.dtype}, got {list(x.shape)} {x.dtype}")
    check_base(name, x)
    refuse_transforms(name)
    refuse_differentiated_constants(name, constants)
    if constants and len(constants) != len(lin._constants):
        raise ValueError(f"{name}: constants must be {len(lin._constants)} values or none, got {len(constants)}")
    for i, (value, before) in enumerate(zip(constants, lin._constants, strict=False)):
        tensors = isinstance(value, torch.Tensor) and isinstance(before, torch.Tensor)
        if tensors and value.device != before.device:
            raise ValueError(f"{name}: constants[{i}] must be on {before.device}, got {value.device}")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (value, before))
        if not tensors and not numbers and type(value) is not type(before):
            raise TypeError(
                f"{name}: constants[{i}] must be of type {type(before).__name__}, got {type(value).__name__}"
            )
    return constants or lin._constants


def own(constants: tuple[Any, ...]) -> tuple[Any, ...]:
    """Constants as they are now; what the caller writes to his tensors later does not count."""
    return tuple(value.detach().clone() if isinstance(value, torch.Tensor) else value for value in constants)


def check_base(name: str, x: torch.Tensor) -> None:
    """Raise unless ``x`` can be a base point: a finite floating tensor with a batch dimension."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: x must be a torch.Tensor, got {type(x).__name__}")
    refuse_tracing(name)
    refuse_differentiated(name, x=x)
    check_dense(name, "x", x)
    if x.dtype not in FLOATING:
        raise ValueError(f"{name}: x must be a floating-point tensor of 16, 32 or 64 bits, got dtype {x.dtype}")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"{name}: x must be non-empty with a batch in dimension 0, got shape {list(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: x must be finite, got {describe_non_finite(x)}")


def describe_non_finite(x: torch.Tensor) -> str:
    """Count of NaN and Inf in x and the index of the first, for messages."""
    bad = ~torch.isfinite(x)
    first = bad.nonzero()[0].tolist()
    return f"{int(torch.isnan(x).sum())} NaN and {int(torch.isinf(x).sum())} Inf, the first at index {first}"
