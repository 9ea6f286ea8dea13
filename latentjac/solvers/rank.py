"""How many directions a Jacobian really has, when its spectrum is too long to compute.

The largest singular values are computed; the rest enters through stochastic Lanczos quadrature (Golub & Meurant 1994;
Ubaru, Chen & Saad 2017) on random vectors outside their span, as Hutch++ does for the trace (Meyer et al. 2021).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from latentjac.arguments import check_generator, check_int, check_kind, check_number, shown
from latentjac.linear_algebra import orthogonal_part
from latentjac.public import public
from latentjac.solvers.arguments import check_operator, check_rank_limit
from latentjac.solvers.arrays import ArrayOperator, adapted
from latentjac.solvers.basis import LocalBasis
from latentjac.solvers.building import building
from latentjac.solvers.decompose import svd
from latentjac.solvers.operator import Deflated, LinearOperator, Products
from latentjac.statistics import student_quantile

_TOP_TOLERANCE = 1e-2  # residual of the values that are split off; their error is of second order in it

MOST_PROBES = 65_536

_SEED = 20231210  # any but svd's own: probes must not repeat the start block of the basis


@dataclass(frozen=True)
class Estimate:
    """A number and an interval that holds it with the confidence asked for.

    Attributes:
        value: Point estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def times(self, *factors: float) -> Estimate:
        """Multiplied by positive numbers, one after the other.

        Raises:
            TypeError: If a factor is not a number.
            ValueError: If a factor is not positive and finite.
        """
        factors = tuple(check_number("times", "factors", factor, 0, math.inf) for factor in factors)
        scaled = self._scaled(*factors)
        if not all(math.isfinite(end) for end in (scaled.value, scaled.low, scaled.high)):
            raise ValueError(f"times: factors must leave the estimate finite, got {shown(factors)}")
        return scaled

    def _scaled(self, *factors: float) -> Estimate:
        """As :meth:`times`; infinite where no float is so large."""
        return Estimate(*(math.prod([end, *factors]) for end in (self.value, self.low, self.high)))

    def __contains__(self, other: float) -> bool:
        return self.low <= other <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class EffectiveRank:
    """Sizes of a Jacobian's spectrum, with ``G = J^T J``.

    Attributes:
        energy: ``|J|_F^2 = tr G``.
        energy2: ``|J^T J|_F^2 = tr G^2``.
        participation: ``(tr G)^2 / tr G^2``; r for r equal singular values.
        stable: ``tr G / s[0]^2``.
        entropy: ``exp(-sum p log p)`` with ``p = s^2 / tr G`` (Roy & Vetterli 2007).
        numerical: Number of singular values above ``threshold * s[0]``.
        threshold: That threshold.
        s: The largest singular values, computed, ``[k]``.
        cumulative: Part of the energy in the first 1 … k of them.
        confidence: Probability that an interval is meant to have.
        jvps: Vectors taken through J.
        vjps: Vectors taken through the transpose.
        seconds: Wall time.
    """

    energy: Estimate
    energy2: Estimate
    participation: Estimate
    stable: Estimate
    entropy: Estimate
    numerical: Estimate
    threshold: float
    s: torch.Tensor = field(repr=False)
    cumulative: tuple[Estimate, ...] = field(repr=False)
    confidence: float
    jvps: int
    vjps: int
    seconds: float
    _quadrature: _Quadrature = field(repr=False, compare=False)

    def count_above(self, s: float) -> Estimate:
        """Number of singular values above a value: the spectrum as a cumulative distribution.

        The interval covers, beside chance, what a quadrature with so few steps cannot resolve
        (Chebyshev-Markov-Stieltjes).

        Raises:
            TypeError: If s is not a number.
            ValueError: If s is not positive and finite.
        """
        return self._quadrature.count_above(check_number("count_above", "s", s, 0, math.inf))

    def count_holding(self, part: float) -> Estimate:
        """Least number of singular values that hold a part of the energy ``|J|_F^2``.

        ``0.99**2`` is the rank of Chen et al. (2024), whose criterion is the root of the energy; ``0.5`` counts the
        eigenvalues of G that hold half of their sum (Park et al. 2023, first version). The interval covers, beside
        chance, what a quadrature with so few steps cannot resolve. Where the count ends in a long tail of small values
        it is wide, and the value, which takes those that share a node for equal, is too large: raise ``steps``.

        Raises:
            TypeError: If part is not a number.
            ValueError: If part is not in (0, 1).
        """
        return self._quadrature.count_holding(check_number("count_holding", "part", part, 0, 1))

    def __str__(self) -> str:
        rows = [
            ("|J|_F^2", self.energy),
            ("|J^T J|_F^2", self.energy2),
            ("participation ratio", self.participation),
            ("stable rank", self.stable),
            ("entropy rank", self.entropy),
            (f"values above {self.threshold:g} s[0]", self.numerical),
            (f"energy of the first {len(self.s)}", self.cumulative[-1]),
        ]
        head = f"effective rank, {self.confidence:.0%} intervals ({self.jvps} JVPs + {self.vjps} VJPs)"
        return "\n".join([head, *(f"  {name:22s} {estimate}" for name, estimate in rows)])


@public
def effective_rank(
    operator: LinearOperator | ArrayOperator,
    k: int = 8,
    *,
    probes: int = 16,
    steps: int = 12,
    threshold: float = 0.1,
    confidence: float = 0.95,
    basis: LocalBasis | None = None,
    generator: torch.Generator | None = None,
) -> EffectiveRank:
    """Effective ranks and energies of a Jacobian at one point, with confidence intervals.

    Args:
        operator: Linearization, or anything with ``x``, ``y``, ``jvp`` and ``vjp``.
        k: Largest singular values that are split off first, which takes away most of the variance.
        probes: Random vectors, at most ``MOST_PROBES``; the intervals shrink with the root of their number.
        steps: Lanczos steps of each; more resolve the spectrum better. The energies need 2.
        threshold: For the numerical rank, relative to the largest singular value.
        confidence: Of the intervals.
        basis: Triplets to split off, instead of computing k of them.
        generator: Source of the random vectors; by default a CPU generator with a seed other than that of :func:`svd`,
            whose start block is deflated away with the basis it led to.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the operator has several points or is zero.

    Example:
        >>> lin = latentjac.linearize(lambda x: x[:, :1] * torch.ones(5), torch.ones(1, 3))
        >>> rank = latentjac.effective_rank(lin, k=1)
        >>> round(float(rank.participation.value), 3)
        1.0
    """
    started = time.perf_counter()
    name = "effective_rank"
    operator = adapted(name, "operator", operator)
    _check(operator, basis, generator)
    probes, steps = check_int(name, "probes", probes, 2, MOST_PROBES), check_int(name, "steps", steps, 2)
    threshold, confidence = (
        check_number(name, argument, value, 0, 1)
        for argument, value in (("threshold", threshold), ("confidence", confidence))
    )
    k = check_int(name, "k", k, 1)
    if basis is None:
        check_rank_limit(name, operator, k)
    generator = generator or torch.Generator().manual_seed(_SEED)
    spent = (0, 0)
    with building("effective_rank"):
        if basis is None:
            basis = svd(operator, k, _TOP_TOLERANCE, generator=generator)
            spent = basis.jvps, basis.vjps
    s, products = basis.s.double().cpu(), Products(operator, subject="effective_rank: operator")
    if not float(s[0]) > 0:
        raise ValueError("effective_rank: operator must not be zero, got a Jacobian that vanishes")
    known = basis.v.reshape(1, len(s), -1).to(products.device, products.dtype)
    nodes, weights = _lanczos(Deflated(products, known), probes, max(1, min(steps, products.n - len(s))), generator)
    unit = products.units.item()  # of the products, and so of the nodes
    known_s, limit = s / unit, min(products.n, products.m)
    rest = _Quadrature(known_s, nodes, weights * (products.n - len(s)), confidence, limit, unit)
    sums = torch.cumsum(known_s.square(), 0)
    return EffectiveRank(
        rest.estimate(lambda x: x)._scaled(unit, unit),
        rest.estimate(torch.square)._scaled(unit, unit, unit, unit),
        participation=rest.ratio(lambda t, q, _: t * t / q),
        stable=rest.ratio(lambda t, *_: t / known_s[0].square()),
        entropy=rest.ratio(lambda t, _, e: torch.exp(torch.log(t) - e / t)),
        numerical=rest.count_above(threshold * float(s[0])),
        threshold=threshold,
        s=s,
        cumulative=tuple(rest.ratio(lambda t, *_, c=c: c / t) for c in sums),
        confidence=confidence,
        jvps=products.jvps + spent[0],
        vjps=products.vjps + spent[1],
        seconds=time.perf_counter() - started,
        _quadrature=rest,
    )


@dataclass(frozen=True)
class _Quadrature:
    """Traces of functions of G: known eigenvalues exactly, the rest by nodes and weights of each probe.

    Attributes:
        s: Known singular values ``[k]``, in units.
        nodes: Eigenvalues of G as each probe sees them ``[probes, steps]``, ascending, in units squared.
        weights: How many eigenvalues each stands for.
        confidence: Of the intervals.
        limit: Most nonzero eigenvalues.
        unit: A power of two near the norm of J: squares of singular values may have no float64.
    """

    s: torch.Tensor
    nodes: torch.Tensor
    weights: torch.Tensor
    confidence: float
    limit: int
    unit: float

    def samples(self, f: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The trace of f(G) as each probe sees it, ``[probes]``."""
        return f(self.s.square()).sum() + (self.weights * f(self.nodes)).sum(dim=1)

    def estimate(self, f: Callable[[torch.Tensor], torch.Tensor]) -> Estimate:
        """Trace of f(G)."""
        values = self.samples(f)
        return self._interval(values.mean(), values.std() / math.sqrt(len(values)), float(f(self.s.square()).sum()))

    def ratio(self, g: Callable[..., torch.Tensor]) -> Estimate:
        """A function of tr G, tr G^2 and tr G log G; its error by the jackknife."""
        sums = torch.stack([self.samples(f) for f in (lambda x: x, torch.square, _x_log_x)])
        count = sums.shape[1]
        value = g(*sums.mean(dim=1))
        left_out = g(*((sums.sum(dim=1, keepdim=True) - sums) / (count - 1)))
        spread = ((count - 1) * (left_out - left_out.mean()).square().mean()).sqrt()
        return self._interval(value, spread, 0.0)

    def count_above(self, s: float) -> Estimate:
        """Number of singular values above s."""
        s /= self.unit
        known = float((self.s > s).sum())
        inside = (self.nodes > s * s).double()
        above = (self.weights * inside).sum(dim=1)
        # The nodes on both sides of the threshold may stand for values on either.
        first = torch.searchsorted(self.nodes, self.nodes.new_full((len(self.nodes), 1), s * s), right=True)
        columns = torch.arange(self.nodes.shape[1], device=self.nodes.device)[None]
        upper = (self.weights * (columns >= first - 1)).sum(dim=1)
        lower = (self.weights * (columns > first)).sum(dim=1)
        margin = student_quantile(self.confidence, len(above) - 1)
        error = [float(x.std()) / math.sqrt(len(x)) * margin for x in (lower, upper)]
        low, high = known + float(lower.mean()) - error[0], known + float(upper.mean()) + error[1]
        return Estimate(known + float(above.mean()), max(low, known), min(high, float(self.limit)))

    def count_holding(self, part: float) -> Estimate:
        """Least number of singular values with a part of the energy; its error by the jackknife."""
        every = range(len(self.nodes))
        found = self._holding(part, list(every))[1]
        left_out = torch.stack([self._holding(part, [j for j in every if j != i]) for i in every])
        spread = ((len(every) - 1) * (left_out - left_out.mean(0)).square().mean(0)).sqrt()
        margin = student_quantile(self.confidence, len(every) - 1)
        low, _, high = self._holding(part, list(every)) + margin * spread * spread.new_tensor([-1, 0, 1])
        # Rounded up, as a count of values is; rounding must not take one more where it is met exactly.
        whole = (max(1, math.ceil(x - 1e-6)) for x in (found, low, min(high, float(self.limit))))
        return Estimate(*map(float, whole))

    def _holding(self, part: float, probes: list[int]) -> torch.Tensor:
        """Lower end, value and upper end of the count as some of the probes see it.

        The value takes a part of the last node where that suffices. In truth a node stands for values between its
        neighbours (Chebyshev-Markov-Stieltjes), so the ends leave out or take in one node more of each probe.
        """
        nodes, weights = self.nodes[probes].flatten(), self.weights[probes].flatten() / len(probes)
        values = torch.cat([self.s.square(), nodes])
        counts = torch.cat([torch.ones_like(self.s), weights])
        order = values.argsort(descending=True)
        held = torch.cumsum((values * counts)[order], 0)
        last = int((held < part * held[-1]).sum())
        missing = part * held[-1] - (held[last - 1] if last else 0.0)
        value = counts[order][:last].sum() + missing / values[order][last]
        if last < len(self.s) and bool((order[: last + 1] < len(self.s)).all()):
            return torch.stack([value] * 3)
        known = float((self.s.square() > values[order][last]).sum())
        first = torch.searchsorted(self.nodes[probes], values[order][last].expand(len(probes), 1).contiguous())
        columns = torch.arange(self.nodes.shape[1], device=self.nodes.device)[None]
        rows = self.weights[probes]
        low = known + float((rows * (columns > first + 1)).sum(dim=1).mean())
        high = known + float((rows * (columns >= first - 1)).sum(dim=1).mean())
        return torch.stack([value.new_tensor(min(low, float(value))), value, value.new_tensor(max(high, float(value)))])

    def _interval(self, value: torch.Tensor, error: torch.Tensor, least: float) -> Estimate:
        margin = float(error) * student_quantile(self.confidence, len(self.nodes) - 1)
        return Estimate(float(value), max(float(value) - margin, least), float(value) + margin)


def _x_log_x(x: torch.Tensor) -> torch.Tensor:
    return torch.special.xlogy(x, x)


def _lanczos(
    operator: Deflated, probes: int, steps: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Golub-Kahan bidiagonalisation from each probe, fully reorthogonalised; Gauss nodes and weights for G."""
    rows = operator.random(probes, generator)[0]
    v = _unit(orthogonal_part(rows, operator.known[0]))[0]
    right, left = v[:, None], v.new_zeros(probes, 0, operator.m)
    core = torch.zeros(probes, steps, steps, dtype=torch.float64, device=v.device)
    scale = 0.0
    for j in range(steps):
        image = operator.forward(v[None])[0]
        scale = max(scale, float(image.double().norm(dim=1).max()))
        u, core[:, j, j] = _unit(_outside(image, left), scale)
        left = torch.cat([left, u[:, None]], dim=1)
        if j + 1 < steps:
            v, core[:, j, j + 1] = _unit(_outside(operator.backward(u[None])[0], right), scale)
            right = torch.cat([right, v[:, None]], dim=1)
    operator.fetch(core.new_zeros(1))
    values, vectors = torch.linalg.eigh(core.mT @ core)
    return values.clamp_min(0).cpu(), vectors[:, 0].square().cpu()


def _outside(rows: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Rows ``[P, n]`` without their parts in ``[P, j, n]``, twice for rounding."""
    for _ in range(2):
        rows = orthogonal_part(rows[:, None], found)[:, 0]
    return rows


def _unit(rows: torch.Tensor, scale: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows and their lengths; what is noise against the scale becomes zero."""
    lengths = rows.double().norm(dim=1)
    lengths = lengths * (lengths > scale * 100 * torch.finfo(rows.dtype).eps)
    inverse = torch.where(lengths > 0, 1 / lengths.clamp_min(1e-300), 0.0)
    return (rows * inverse[:, None]).to(rows.dtype), lengths


def _check(operator: Any, basis: Any, generator: Any) -> None:
    check_operator("effective_rank", "operator", operator)
    if operator.x.shape[0] != 1:
        raise ValueError(f"effective_rank: operator must have one point, got {operator.x.shape[0]}")
    check_kind("effective_rank", "basis", basis, LocalBasis, "a LocalBasis", optional=True)
    if basis is not None and basis.v.shape[1:] != operator.x.shape[1:]:
        expected, got = list(operator.x.shape[1:]), list(basis.v.shape[1:])
        raise ValueError(f"effective_rank: basis must have directions of shape {expected}, got {got}")
    check_generator("effective_rank", generator)
