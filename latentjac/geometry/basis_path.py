"""Local bases along a trajectory, each started from the ones before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from latentjac import interrupts
from latentjac.arguments import check_bool, check_kind, check_sequence, is_int, is_number, shown
from latentjac.diffusion import Point, Trajectory
from latentjac.diffusion.arguments import check_model
from latentjac.geometry.local_basis import local_basis
from latentjac.models import Model
from latentjac.public import public
from latentjac.solvers import Krylov, LocalBasis, Solver, SolverState, Status
from latentjac.solvers.arguments import MAX_PASSES, TOL
from latentjac.solvers.building import calling
from latentjac.stopping import Bar

# How far the change of the left vectors over the last step is carried on into the next one. Counted on the face model:
# 0.5 to 0.75 save about a tenth of the vectors of a step against 0, and 1 overshoots where the path bends.
_EXTRAPOLATION = 0.5


@dataclass(frozen=True)
class BasisPath:
    """Local bases at several points of a trajectory.

    Attributes:
        points: Where.
        bases: The basis at each point.
        cold: Whether a basis was computed from random vectors alone, for each point.
    """

    points: tuple[Point, ...]
    bases: tuple[LocalBasis, ...] = field(repr=False)
    cold: tuple[bool, ...] = field(repr=False)

    @property
    def vectors(self) -> tuple[int, ...]:
        """Products with J and with its transpose that each basis took."""
        return tuple(basis.jvps + basis.vjps for basis in self.bases)

    @property
    def saved(self) -> float:
        """Part of the vectors spared, if every basis had taken as many as the cold ones did on average."""
        counts = [n for n, cold in zip(self.vectors, self.cold, strict=True) if cold]
        return 1 - sum(self.vectors) / (sum(counts) / len(counts) * len(self.bases))

    def __len__(self) -> int:
        return len(self.bases)

    def __iter__(self) -> Iterator[LocalBasis]:
        return iter(self.bases)

    def __getitem__(self, index: int) -> LocalBasis:
        if not (is_int(index) or isinstance(index, slice)):
            raise TypeError(f"BasisPath: index must be an int, got {type(index).__name__}")
        if is_int(index) and not -len(self) <= index < len(self):
            raise IndexError(f"BasisPath: index must be in [0, {len(self)}), got {shown(index)}")
        return self.bases[index]

    def __str__(self) -> str:
        lines = ["  timestep      t   largest s  smallest s   residual  JVPs  VJPs  start  status"]
        for point, basis, cold in zip(self.points, self.bases, self.cold, strict=True):
            first, last = basis.s[..., 0].max().item(), basis.s[..., -1].min().item()
            counts = f"{basis.jvps:4d}  {basis.vjps:4d}  {'cold' if cold else 'warm'} "
            residual = basis.residuals.max().item()
            lines.append(
                f"  {point.timestep:8d}  {point.t:.3f}  {first:10.5g}  {last:10.5g}  {residual:9.1e}  {counts}  "
                f"{basis.status.value}"
            )
        lines.append(
            f"  {sum(self.vectors)} vectors, {self.saved:.0%} fewer than cold starts like the first would take"
        )
        return "\n".join(lines)


@public
def basis_path(
    model: Model,
    trajectory: Trajectory,
    timesteps: Sequence[int | float],
    k: int = 8,
    layer: str = "mid",
    *,
    tol: float = TOL,
    solver: Solver = Krylov(confirm=0),
    max_passes: int = MAX_PASSES,
    backend: str = "auto",
    generator: torch.Generator | None = None,
    warm: bool = True,
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
    strict: bool = False,
) -> BasisPath:
    """Local bases along a trajectory with one trace, each warm-started from the two before.

    The left vectors of the last basis, moved on by half of their last change, are pulled back through the new Jacobian;
    that is the first block. Most is saved when steps are small and the tolerance is loose. Each basis has its own
    residuals, so a bad start costs vectors and not accuracy.

    Args:
        model: The model.
        trajectory: From :func:`latentjac.invert`.
        timesteps: Where: timesteps of the trajectory's grid (int) or fractions of T (float), in the order to visit.
        k: Number of directions.
        layer: Module name, ``"mid"``, ``"eps"`` or ``"x0"``.
        tol: Largest relative residual.
        solver: At each point, see :func:`latentjac.svd`. By default no expansion confirms a warm start; a direction
            that is new in the top k and hardly coupled to the old ones is found more surely with ``Krylov(confirm=1)``.
        max_passes: Most passes of the solver at each point.
        backend: Backend of the linearization.
        generator: Source of random start vectors.
        warm: False computes every basis from random vectors, for comparison.
        callback: Called with the solver's state after each expansion; returning True stops the whole path.
        progress: Show a progress bar with the vectors used and saved.
        strict: Raise when a basis does not converge.

    Returns:
        The bases that were computed; fewer than asked for if stopped or interrupted, the last one then mostly partial.
        After Ctrl-C, as of :func:`latentjac.svd`, the next call raises ``KeyboardInterrupt`` unless its status is read.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or a timestep is not on the trajectory.
        ConvergenceError: If ``strict`` and a basis did not converge.

    Example:
        >>> bases = latentjac.basis_path(model, path, [0.7, 0.5], k=2, tol=0.1)
        >>> len(bases)
        2
    """
    check_model("basis_path", model)
    warm, progress = check_bool("basis_path", "warm", warm), check_bool("basis_path", "progress", progress)
    places = _places(trajectory, timesteps)
    bases: list[LocalBasis] = []

    def computed() -> BasisPath:
        cold = tuple(not warm or i == 0 for i in range(len(bases)))
        return BasisPath(tuple(places[: len(bases)]), tuple(bases), cold)

    with calling("basis_path"), Bar("basis path", places, "basis", shown=progress) as bar:
        for point in bar:
            try:
                basis = local_basis(
                    model,
                    point,
                    k,
                    layer,
                    tol=tol,
                    solver=solver,
                    max_passes=max_passes,
                    backend=backend,
                    generator=generator,
                    warm_start=_start(bases) if warm and bases else None,
                    callback=callback,
                    strict=strict,
                )
            except KeyboardInterrupt:
                if not bases:
                    raise
                interrupts.leave(bases[-1])
                break
            bases.append(basis)
            bar.set_postfix(vectors=sum(computed().vectors), saved=f"{computed().saved:.0%}")
            # Only who called has seen an interruption, when he reads the status.
            if interrupts.unseen(basis) or basis.status is Status.INTERRUPTED:
                break
    return computed()


def _places(trajectory: Any, timesteps: Any) -> list[Point]:
    check_kind("basis_path", "trajectory", trajectory, Trajectory, "a latentjac.Trajectory")
    places = []
    for t in check_sequence("basis_path", "timesteps", timesteps, "ints or fractions of T"):
        if not is_number(t):
            raise TypeError(f"basis_path: timesteps must hold ints or fractions of T, got {type(t).__name__}")
        try:
            places.append(trajectory.at(timestep=t) if is_int(t) else trajectory.at(t))
        except ValueError as error:
            raise ValueError(f"basis_path: timesteps must lie on the trajectory: {error}") from None
    return places


def _start(bases: list[LocalBasis]) -> LocalBasis:
    """The last basis, with its left vectors moved on by part of their last change."""
    last = bases[-1]
    if len(bases) == 1:
        return last
    new, old = (basis.u.reshape(basis.points, basis.k, -1).double() for basis in bases[-2:][::-1])
    # Bases of one subspace differ by a rotation: compare with the old one turned as near as it gets (Procrustes).
    left, _, right = torch.linalg.svd(new @ old.mT)
    moved = new + _EXTRAPOLATION * (new - (left @ right) @ old)
    return replace(last, u=moved.reshape(last.u.shape).to(last.u.dtype))
