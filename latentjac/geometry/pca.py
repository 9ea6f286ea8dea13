"""Principal components of samples or of their features: the baseline that needs no Jacobian to be decomposed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_int, check_tensor, shown
from latentjac.geometry.feature_map import FeatureMap, check_features
from latentjac.geometry.rows import check_points, directions_at
from latentjac.public import public
from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class PrincipalComponents(Shaped):
    """Directions of largest variance.

    Attributes:
        mean: Mean of the data, ``[...]``.
        directions: Orthonormal, ``[k, ...]``; the entry of largest size of each is positive.
        variances: Variance along each, float64 ``[k]``, descending.
        explained: Part of the whole variance, float64 ``[k]``.
    """

    mean: torch.Tensor
    directions: torch.Tensor
    variances: torch.Tensor
    explained: torch.Tensor


@public
def principal_components(data: torch.Tensor, k: int) -> PrincipalComponents:
    """The k principal components of N samples, or of their features.

    Args:
        data: ``[N, ...]``, such as ``features.values(samples)``.
        k: In [1, min(N - 1, n)].

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If k is out of range or all samples are the same.
    """
    rows = check_tensor("principal_components", "data", data)
    k = check_int("principal_components", "k", k, 1)
    limit = min(len(rows) - 1, rows[0].numel()) if rows.ndim > 1 and rows.numel() else 0
    if k > limit:
        got = f"{shown(k)} for data of shape {list(rows.shape)}"
        raise ValueError(f"principal_components: k must be in [1, min(N - 1, n)] = [1, {limit}], got {got}")
    flat = rows.flatten(1).double()
    mean = flat.mean(0)
    _, s, v = torch.linalg.svd(flat - mean, full_matrices=False)
    if not s[0].square() > 0:
        raise ValueError("principal_components: data must vary, got samples that are all the same")
    variances = s.square() / (len(rows) - 1)
    largest = v[:k].gather(1, v[:k].abs().argmax(1, keepdim=True))
    directions = (v[:k] * largest.sign()).reshape(k, *rows.shape[1:])
    return PrincipalComponents(
        mean.reshape(rows.shape[1:]).to(rows.dtype),
        directions.to(rows.dtype),
        variances[:k],
        variances[:k] / variances.sum(),
    )


@public
@torch.no_grad()
def ascent_directions(features: FeatureMap, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Unit x-directions ``J^T u / |J^T u|`` along which the features grow fastest in h-directions.

    Args:
        features: The map.
        x: Points ``[B, ...]``.
        u: h-directions ``[q, ...]``, the same for all points, or ``[B, q, ...]``, such as principal components.

    Returns:
        ``[q, *x.shape[1:]]``, or ``[B, q, *x.shape[1:]]`` for B > 1 points.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a shape does not fit, or no x-direction moves the features along one of u.
    """
    check_features("ascent_directions", features)
    x = check_points("ascent_directions", "x", x)
    given = check_tensor("ascent_directions", "u", u)
    like = features.values(x)
    rows = directions_at("ascent_directions", "u", given, like, unit=True)
    pulled = features.cotangents(x, rows)
    lengths = pulled.flatten(2).double().norm(dim=2)
    if not lengths.all():
        raise ValueError(
            f"ascent_directions: u must be reachable from x, got J^T u = 0 at {(lengths == 0).nonzero()[0].tolist()}"
        )
    unit = (pulled / lengths.view(*lengths.shape, *[1] * (x.ndim - 1))).to(x.dtype)
    return unit[0] if len(x) == 1 else unit
