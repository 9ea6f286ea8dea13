"""A feature map at one timestep, as what measures along directions and paths evaluate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import check_callable, check_choice, check_int, check_kind, check_tensor
from latentjac.diffusion import Point, place
from latentjac.linearization import BACKENDS, Linearization, NonFiniteError, linearize
from latentjac.models import Model
from latentjac.public import public

_MOST_SAMPLES = 16  # evaluated at once


class FeatureMap:
    """A function ``f(x)`` of samples with its values, tangents and cotangents at any number of points.

    Args:
        f: Maps ``[n, ...]`` to ``[n, ...]``; dimension 0 is a batch of independent points.
        *constants: Further arguments of f.
        backend: Backend of the linearization.
        points_at_once: Points that one linearization holds. One by default: then the trace is the one that
            :func:`latentjac.local_basis` keeps on the model.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If points_at_once is not positive.
    """

    def __init__(
        self,
        f: Callable[..., torch.Tensor],
        *constants: torch.Tensor,
        backend: str = "auto",
        points_at_once: int = 1,
    ) -> None:
        check_callable("FeatureMap", "f", f)
        points_at_once = check_int("FeatureMap", "points_at_once", points_at_once, 1)
        backend = check_choice("FeatureMap", "backend", backend, BACKENDS)
        self._f = f
        self._constants: Callable[[int], tuple[Any, ...]] = lambda _: constants
        self._backend, self._points_at_once = backend, points_at_once
        self._kept: Linearization | None = None
        self._linearized: Callable[[torch.Tensor], Linearization] = self._traced

    @classmethod
    @public
    def at(
        cls, model: Model, point: Point, layer: str = "mid", *, backend: str = "auto", points_at_once: int = 1
    ) -> FeatureMap:
        """The feature map of a layer at the timestep and conditioning of a point.

        Args:
            model: The model.
            point: Where; its sample does not matter. Conditioning must have one row.
            layer: Module name, ``"mid"`` (h-space), ``"eps"`` or ``"x0"``.
            backend: Backend of the linearization.
            points_at_once: Points that one linearization holds.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If the point does not fit the model or the layer is unknown.
        """
        place("FeatureMap.at", model, point)
        if point.conditioning.num_rows != 1:
            raise ValueError(f"FeatureMap.at: point.conditioning must have one row, got {point.conditioning.num_rows}")
        model.resolve_layer(layer)
        t = torch.tensor(point.timestep, device=point.sample.device)
        features = cls(model.feature_map(layer), backend=backend, points_at_once=points_at_once)
        features._constants = lambda n: (t, point.conditioning.expand(n))
        features._linearized = lambda x: model.linearization(
            layer, x, *features._constants(len(x)), backend=features._backend
        )
        return features

    @public
    @torch.no_grad()
    def values(self, x: torch.Tensor) -> torch.Tensor:
        """``f(x)`` of n samples ``[n, ...]``, a bounded number at a time.

        Raises:
            TypeError: If x or what f returns is not a tensor.
            ValueError: If x is not floating-point and finite, or f returns something else than one entry a sample.
            NonFiniteError: If f gives NaN or Inf.
        """
        x = _points("values", x)
        parts = [self._value(part) for part in x.split(_MOST_SAMPLES)]
        y = torch.cat(parts)
        if not torch.isfinite(y).all():
            raise NonFiniteError("FeatureMap: f must be finite, got NaN or Inf")
        return y

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        y = check_kind("values", "f(x)", self._f(x, *self._constants(len(x))), torch.Tensor, "a torch.Tensor")
        if y.ndim == 0 or len(y) != len(x):
            raise ValueError(f"values: f must return {len(x)} entries as x has, got shape {list(y.shape)}")
        return y

    @public
    def tangents(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``J v`` of q directions at each of n points, ``[n, ...]`` and ``[n, q, ...]`` to ``[n, q, ...]``.

        Raises:
            TypeError: If an argument is not a tensor.
            ValueError: If a shape or type does not fit.
        """
        x, v = _points("tangents", x), check_tensor("tangents", "v", v)
        if v.ndim != x.ndim + 1 or len(v) != len(x) or v.shape[2:] != x.shape[1:] or v.numel() == 0:
            expected = ", ".join(map(str, [len(x), "q", *x.shape[1:]]))
            raise ValueError(f"tangents: v must have shape [{expected}] for the shape of x, got {list(v.shape)}")
        return self._products(x, v.to(x), lambda lin, probes: lin.jvp(probes))

    @public
    def cotangents(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """``J^T u`` of q feature directions ``[n, q, *f(x).shape[1:]]`` at each of n points.

        Raises:
            TypeError: If an argument is not a tensor.
            ValueError: If a shape or type does not fit.
        """
        x, u = _points("cotangents", x), check_tensor("cotangents", "u", u)
        if u.ndim < 2 or len(u) != len(x) or u.numel() == 0:
            raise ValueError(
                f"cotangents: u must have shape [{len(x)}, q, ...] for the shape of x, got {list(u.shape)}"
            )
        return self._products(x, u, _pulled)

    def _products(
        self, x: torch.Tensor, rows: torch.Tensor, product: Callable[[Linearization, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        size = min(self._points_at_once, len(x))
        parts = []
        for start in range(0, len(x), size):
            part = rows[start : start + size]
            # The last batch is filled up: another batch size would be another trace.
            lin = self._linearized(_filled(x[start : start + size], size))
            probes = _filled(part, size).transpose(0, 1).contiguous()
            parts.append(product(lin, probes).transpose(0, 1)[: len(part)])
        return torch.cat(parts)

    def _traced(self, x: torch.Tensor) -> Linearization:
        kept = self._kept
        if kept is None or kept.x.shape != x.shape or kept.x.dtype != x.dtype:
            self._kept = linearize(self._f, x, *self._constants(len(x)), backend=self._backend)
            return self._kept
        kept.rebase(x)
        return kept


def check_features(name: str, features: Any) -> None:
    """Raise unless features is a :class:`FeatureMap`."""
    check_kind(name, "features", features, FeatureMap, "a latentjac.geometry.FeatureMap")


def _points(name: str, x: Any) -> torch.Tensor:
    x = check_tensor(name, "x", x)
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"{name}: x must hold samples in dimension 0, got shape {list(x.shape)}")
    return x


def _pulled(lin: Linearization, probes: torch.Tensor) -> torch.Tensor:
    if probes.shape[1:] != lin.y.shape:
        expected = ", ".join(map(str, ["n", "q", *lin.y.shape[1:]]))
        got = list(probes.transpose(0, 1).shape)
        raise ValueError(f"cotangents: u must have shape [{expected}] as f(x) for this x, got {got}")
    return lin.vjp(probes.to(lin.y))


def _filled(rows: torch.Tensor, size: int) -> torch.Tensor:
    return rows if len(rows) == size else torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
