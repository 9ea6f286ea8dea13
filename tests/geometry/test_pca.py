"""Principal components of data with a known covariance, and gradients of features."""

from __future__ import annotations

import torch
from geometry.subspaces import orthonormal
from networks import rand

from latentjac.geometry import FeatureMap, ascent_directions, principal_components


def test_components_of_exact_data() -> None:
    """Data made of orthogonal scores: variances and directions are exact."""
    scores = torch.linalg.qr(torch.cat([torch.ones(20, 1).double(), rand(20, 3)], 1))[0][:, 1:]  # mean 0, orthonormal
    directions = orthonormal(3, 12, 4)
    data = 7 + (scores * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ directions
    found = principal_components(data.reshape(20, 3, 4), 2)
    torch.testing.assert_close(found.mean, torch.full((3, 4), 7.0, dtype=torch.float64))
    torch.testing.assert_close(found.variances, torch.tensor([9.0, 4.0], dtype=torch.float64) / 19)
    torch.testing.assert_close(found.explained, torch.tensor([9.0, 4.0], dtype=torch.float64) / 14)
    cosines = (found.directions.flatten(1) * directions[:2]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(2).double())
    flat = found.directions.flatten(1)
    assert (flat.gather(1, flat.abs().argmax(1, keepdim=True)) > 0).all()


def test_gradients_of_features() -> None:
    weight = rand(6, 4)
    features = FeatureMap(lambda x: torch.tanh(x.flatten(1) @ weight))
    x, u = rand(3, 2, 3), rand(2, 4, seed=2)
    found = ascent_directions(features, x, 5 * u)
    for i in range(3):
        dense = (1 - torch.tanh(x[i].flatten() @ weight) ** 2)[:, None] * weight.T
        exact = u @ dense
        torch.testing.assert_close(found[i].flatten(1), exact / exact.norm(dim=1, keepdim=True))
    assert ascent_directions(features, x[:1], u).shape == (2, 2, 3)


def test_the_baseline_on_a_linear_map() -> None:
    """Features of samples that vary along one direction: its image is the component, and J^T leads back."""
    mix = orthonormal(5, 5, 1)
    features = FeatureMap(lambda x: x @ mix.T)
    v = rand(5, seed=3)
    samples = rand(30, 1) * v + 1e-6 * rand(30, 5, seed=4)
    component = principal_components(features.values(samples), 1)
    assert float(component.explained) > 0.999
    back = ascent_directions(features, samples[:1], component.directions)
    assert float(((back @ v) / v.norm()).abs()) > 1 - 1e-9
