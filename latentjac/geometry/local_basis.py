"""The basis of a tangent space of x-space that the pullback metric of a feature map orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import check_choice, check_int
from latentjac.diffusion import Point, linearization_at, place
from latentjac.linearization import BACKENDS, PRECISIONS
from latentjac.models import Model
from latentjac.public import public
from latentjac.solvers import Krylov, LocalBasis, Solver, SolverState, svd
from latentjac.solvers.arguments import MAX_PASSES, TOL, Settings, check_run, check_settings, check_warm_start
from latentjac.solvers.building import calling


@public
def local_basis(
    model: Model,
    point: Point,
    k: int = 8,
    layer: str = "mid",
    *,
    tol: float = TOL,
    solver: Solver = Krylov(),
    max_passes: int = MAX_PASSES,
    max_seconds: float | None = None,
    backend: str = "auto",
    precision: str | None = None,
    generator: torch.Generator | None = None,
    warm_start: LocalBasis | torch.Tensor | None = None,
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
    strict: bool = False,
) -> LocalBasis:
    """Directions at a point that change a feature map the most.

    The rows of ``basis.v`` are the top eigenvectors of the pullback metric ``G = J^T J`` of the layer's map
    at the point, ``basis.s`` the roots of its eigenvalues: a unit step along ``v[i]`` moves the features by
    ``s[i]`` (Park et al. 2023, section 3).

    Args:
        model: The model.
        point: Where, from ``invert(...).at(t)``; several samples are decomposed side by side.
        k: Number of directions.
        layer: Module name, ``"mid"`` (h-space), ``"eps"``, ``"x0"`` or ``"image"``.
        tol: Largest relative residual.
        solver: ``Krylov(...)``, ``Subspace(...)`` or ``Randomized(...)`` of :mod:`latentjac.solvers`.
        max_passes: Most passes of the solver.
        max_seconds: Time after which the solver begins nothing new.
        backend: Backend of the linearization.
        precision: Arithmetic of the passes for float32 samples, see :func:`latentjac.linearize`; ``"mixed"`` finds the
            basis with bf16 passes and refines it with fp32 ones, of which triplets, residuals and certificate are.
        generator: Source of the solver's start block.
        warm_start: Basis of a nearby point, or directions ``[q, C, H, W]`` (``[B, q, C, H, W]`` for several samples).
        callback: Called with the solver's state after each expansion; returning True stops.
        progress: Show a progress bar.
        strict: Raise when not converged.

    Returns:
        The basis, with model, layer and point in its metadata; the best so far after Ctrl-C, as from
        :func:`latentjac.svd`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, the point does not fit the model, or the layer is unknown.
        ConvergenceError: If ``strict`` and not converged.

    Example:
        >>> basis = latentjac.local_basis(model, point, k=2, layer="mid", tol=0.1)
        >>> len(basis.v), basis.status.value
        (2, 'converged')
    """
    name = "local_basis"
    place(name, model, point)
    k = check_int(name, "k", k, 1, point.sample[0].numel())
    model.resolve_layer(layer)
    check_run(name, generator, callback, progress, strict)
    warm_start = check_warm_start(name, warm_start, point.sample)
    backend = check_choice(name, "backend", backend, BACKENDS)
    precision = check_choice(name, "precision", precision, (*PRECISIONS, "mixed"), optional=True)
    settings = check_settings(name, Settings(k, tol, solver, max_passes, max_seconds))
    mixed = precision == "mixed"
    lin, *exact = (
        linearization_at(model, point, layer, backend=backend, precision=p)
        for p in (("bf16", "fp32") if mixed else (precision,))
    )
    with calling("local_basis"):
        basis = svd(
            lin,
            **vars(settings),
            generator=generator,
            warm_start=warm_start,
            refine_with=exact[0] if mixed else None,
            callback=callback,
            progress=progress,
            strict=strict,
        )
    if not bool((basis.s[..., 0] > 0).all()):
        raise ValueError(f"local_basis: layer must depend on the sample, got {layer!r}, whose Jacobian is zero")
    basis.metadata.update(place_of(model, point, layer), backend=lin.backend, precision=precision)
    return basis


def place_of(model: Model, point: Point, layer: str) -> dict[str, Any]:
    """What the metadata of a basis says of where it belongs."""
    return {
        "model": model.name,
        "model_identity": model.identity(),
        "layer": layer,
        "timestep": point.timestep,
        "t": point.t,
        "num_inference_steps": point.num_inference_steps,
    }
