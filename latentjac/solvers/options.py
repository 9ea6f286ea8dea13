"""The solvers of :func:`latentjac.svd`: objects that hold exactly their own options."""

from __future__ import annotations

from dataclasses import dataclass

from latentjac.arguments import check_choice, check_int, is_int, shown

MEASURED = "measured"

_MOST_POWER_STEPS = 1000
_STOPS = ("residual", "park2023")
_VECTORS = ("ritz", "park2023")


@dataclass(frozen=True)
class Krylov:
    """Block Golub-Kahan bidiagonalisation with thick restart: fewest products for a residual (docs/solver.md).

    Attributes:
        block_size: Probes a pass, by default chosen by a rule from k and the kind of device. With ``"measured"`` a few
            passes are timed, once an operator, and choose it: the choice and the costs are in the metadata, and given
            back here the choice repeats the run.
        confirm: Expansions that have to confirm what a warm start gives, since it can hide larger values behind its
            own for a while. 0 takes the basis on trust as soon as its residuals allow.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    block_size: int | str | None = None
    confirm: int = 1

    def __post_init__(self) -> None:
        _set(self, "block_size", _plain_block_size(self.block_size))
        _set(self, "confirm", check_int("Krylov", "confirm", self.confirm, 0))


@dataclass(frozen=True)
class Subspace:
    """The subspace iteration of Park et al. (2023): one block of k, no oversampling.

    Attributes:
        stop: ``"residual"``, or ``"park2023"`` for the rule of their code: no entry of v has changed by more than tol
            in the last of at least 12 iterations, at most 100.
        vectors: ``"ritz"``, the best in the span of the last block, or ``"park2023"`` for what their code returns: v
            and s of the next block, and u = J v of the last one, here of unit length; rows of u are not orthogonal.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is none of its choices.
    """

    stop: str = "residual"
    vectors: str = "ritz"

    def __post_init__(self) -> None:
        _set(self, "stop", check_choice("Subspace", "stop", self.stop, _STOPS))
        _set(self, "vectors", check_choice("Subspace", "vectors", self.vectors, _VECTORS))


@dataclass(frozen=True)
class Randomized:
    """Randomized SVD (Halko, Martinsson & Tropp 2011): a fixed number of passes over k + oversampling probes.

    Attributes:
        oversampling: Probes beyond k.
        power_steps: At most 1000 applications of ``J^T J`` before the final one.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    oversampling: int = 10
    power_steps: int = 2

    def __post_init__(self) -> None:
        _set(self, "oversampling", check_int("Randomized", "oversampling", self.oversampling, 0))
        _set(self, "power_steps", check_int("Randomized", "power_steps", self.power_steps, 0, _MOST_POWER_STEPS))


Solver = Krylov | Subspace | Randomized
SOLVERS = (Krylov, Subspace, Randomized)


def _plain_block_size(value: object) -> int | str | None:
    """The int, the word or the None that a block size is."""
    if isinstance(value, str) and value == MEASURED:
        return MEASURED
    if value is None or is_int(value):
        return check_int("Krylov", "block_size", value, 1, optional=True)
    kind = ValueError if isinstance(value, str) else TypeError
    got = shown(value) if isinstance(value, str) else type(value).__name__
    raise kind(f"Krylov: block_size must be an int, {MEASURED!r} or None, got {got}")


def _set(solver: object, option: str, plain: object) -> None:
    """Give an option its plain form, while a frozen object is made."""
    object.__setattr__(solver, option, plain)
