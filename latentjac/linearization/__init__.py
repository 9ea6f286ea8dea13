"""A function traced at a point, its Jacobian and the transpose of it as products over blocks of probes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, overload

import torch

from latentjac.arguments import check_callable, check_choice
from latentjac.kernels.guards import refuse_differentiated_constants, refuse_transforms
from latentjac.linearization.autodiff import AutodiffLinearization
from latentjac.linearization.changes import refuse_sharded
from latentjac.linearization.compiled import ProgramLinearization
from latentjac.linearization.graphs import RecordingError, check_mode
from latentjac.linearization.interface import Linearization
from latentjac.linearization.joint import JointLinearization, SeveralResultsError, of_one, side_by_side
from latentjac.linearization.non_finite import NonFiniteError
from latentjac.linearization.precision import PRECISIONS
from latentjac.linearization.trace import TraceError
from latentjac.linearization.ways import NoDerivativeError
from latentjac.public import beside_compilers

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "AutodiffLinearization",
    "JointLinearization",
    "Linearization",
    "NoDerivativeError",
    "NonFiniteError",
    "ProgramLinearization",
    "RecordingError",
    "TraceError",
    "linearize",
]

BACKENDS = ("auto", "program", "autodiff")

logger = logging.getLogger("latentjac")
_logged: set[str] = set()


@overload
def linearize(f: Callable[..., torch.Tensor], x: torch.Tensor, *constants: Any, **options: Any) -> Linearization: ...
@overload
def linearize(
    f: Callable[..., tuple[torch.Tensor, ...]], x: torch.Tensor, *constants: Any, **options: Any
) -> JointLinearization: ...
@overload
def linearize(
    f: Callable[..., Any], x: tuple[torch.Tensor, ...], *constants: Any, **options: Any
) -> JointLinearization: ...


@beside_compilers
def linearize(
    f: Callable[..., Any],
    x: torch.Tensor | tuple[torch.Tensor, ...],
    *constants: torch.Tensor,
    backend: str = "auto",
    chunk_size: int | None = None,
    cuda_graphs: bool | str = "auto",
    precision: str | None = None,
) -> Linearization | JointLinearization:
    """Linearize ``y = f(x, *constants)`` at x, or ``y = f(*x, *constants)`` where x is a tuple.

    Args:
        f: Maps tensors to a tensor, or to a tuple of such. Dimension 0 of x and y is a batch of independent points.
        x: Base point ``[B, ...]``, floating point, or a tuple of such of one type: f is differentiated by all of them.
        *constants: Further arguments of f, such as the timestep or text embeddings; not differentiated.
        backend: ``"program"`` traces f once and is the fastest, ``"autodiff"`` is torch.func and takes any f,
            ``"auto"`` is the first that can take f.
        chunk_size: Most probes that are taken through the network at once; as many as fit by default.
        cuda_graphs: On a GPU, ``"auto"`` records passes of the program backend when a number of probes comes for the
            second time, and replays them as one launch; ``True`` records at the first and raises where that fails;
            ``False`` launches every kernel by itself.
        precision: Arithmetic of the passes for float32 points. ``"fp32"`` is float32 throughout; ``"tf32"`` lets a GPU
            round the factors of matmuls, convolutions and attention to 11 bits (a processor has no tf32 and computes in
            float32);
            ``"bf16"`` evaluates f in float32 and holds tangents, and the weights that they meet, in bfloat16: products
            are right to about 1e-2. x, y, probes and products are float32 in all three. By default the type of x, and
            what torch is set to; attention follows the setting of matmuls.

    Returns:
        The linearization at x, with ``y``, ``jvp``, ``vjp``, ``rebase``, ``check_adjoint`` and ``to_scipy``. Where x or
        y is a tuple, a :class:`JointLinearization`, whose products take and give tuples.

    Raises:
        TypeError: If f is not callable, x is not a tensor, an option has a wrong type, f(x) is no tensor of
            floating-point numbers, or weights of f are sharded over processes.
        NoDerivativeError: If f has an operator without a derivative, or a custom function whose backward pass cannot be
            transposed; names its line.
        RuntimeError: If x or a constant takes part in differentiation, which would silently end here.
        ValueError: If x is empty, not floating point or not finite, if f mixes up the batch, or an option is unknown
            or not possible on the device of x.
        NonFiniteError: If f(x) has NaN or Inf.
        TraceError: If the backend is ``"program"``, or CUDA graphs or bf16 are demanded, and f cannot be traced.

    Example:
        >>> lin = latentjac.linearize(lambda x, t: t * x**2, torch.tensor([[1.0, 2.0]]), torch.tensor(0.5))
        >>> lin.y
        tensor([[0.5000, 2.0000]])
        >>> lin.vjp(torch.ones(1, 1, 2))
        tensor([[[1., 2.]]])
    """
    check_callable("linearize", "f", f)
    options: dict[str, Any] = {
        "backend": backend, "chunk_size": chunk_size, "cuda_graphs": cuda_graphs, "precision": precision
    }  # fmt: skip
    if isinstance(x, tuple):
        return _joint(f, x, constants, options)
    try:
        return _linearize(f, x, constants, **options)
    except SeveralResultsError:
        return _joint(f, x, constants, options)


def _joint(
    f: Callable[..., Any],
    x: torch.Tensor | tuple[torch.Tensor, ...],
    constants: tuple[Any, ...],
    options: dict[str, Any],
) -> JointLinearization:
    flat = side_by_side("linearize", x)
    joined, several = of_one(f, None if isinstance(x, torch.Tensor) else [part.shape for part in x])
    return JointLinearization(_linearize(joined, flat, constants, **options), x, several)


def _linearize(
    f: Callable[..., torch.Tensor],
    x: torch.Tensor,
    constants: tuple[Any, ...],
    *,
    backend: str,
    chunk_size: int | None,
    cuda_graphs: bool | str,
    precision: str | None,
) -> Linearization:
    backend = check_choice("linearize", "backend", backend, BACKENDS)
    refuse_transforms("linearize")
    refuse_differentiated_constants("linearize", constants)
    refuse_sharded("linearize", f)
    refusal: TraceError | None = None
    if backend == "autodiff":
        # The work of the autograd engine cannot be replayed safely.
        check_mode(cuda_graphs, False, getattr(x, "device", torch.device("cpu")))
    else:
        try:
            return ProgramLinearization(
                f, x, *constants, chunk_size=chunk_size, cuda_graphs=cuda_graphs, precision=precision
            )
        except TraceError as error:
            if backend == "program" or (not isinstance(cuda_graphs, str) and cuda_graphs) or precision == "bf16":
                raise
            _log_once(f"linearize: torch.func is used for the whole function, which is slower: {error}")
            refusal = error
    try:
        return AutodiffLinearization(f, x, *constants, chunk_size=chunk_size, precision=precision)
    except NoDerivativeError as error:
        if refusal is None:
            raise
        raise NoDerivativeError(f"{error}; and it cannot be traced: {refusal}") from error


def _log_once(message: str) -> None:
    if message not in _logged:
        _logged.add(message)
        logger.warning(message)
