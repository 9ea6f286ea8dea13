"""Values and products of feature maps at many points against dense Jacobians."""

from __future__ import annotations

import pytest
import torch
from networks import point_at, rand
from truth import dense_jacobian

import latentjac
from latentjac.geometry import FeatureMap


def mixed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x.flatten(1) @ weight)


WEIGHT = rand(6, 4, seed=5)
X = rand(5, 3, 2)


@pytest.mark.parametrize("points_at_once", [1, 2, 3, 8])
def test_products_at_many_points(points_at_once: int) -> None:
    features = FeatureMap(mixed, WEIGHT, points_at_once=points_at_once)
    v, u = rand(5, 2, 3, 2, seed=2), rand(5, 3, 4, seed=3)
    pushed, pulled = features.tangents(X, v), features.cotangents(X, u)
    assert (pushed.shape, pulled.shape) == ((5, 2, 4), (5, 3, 3, 2))
    for i in range(5):
        dense = dense_jacobian(mixed, X[i : i + 1], WEIGHT)
        torch.testing.assert_close(pushed[i], v[i].flatten(1) @ dense.T, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(pulled[i].flatten(1), u[i] @ dense, rtol=1e-12, atol=1e-13)


def test_values_in_bounded_batches() -> None:
    sizes = []

    def f(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return 2 * x

    x = rand(35, 2)
    assert torch.equal(FeatureMap(f).values(x), 2 * x)
    assert sizes == [16, 16, 3]


def test_one_trace_for_all_points(monkeypatch) -> None:
    from latentjac.geometry import feature_map

    traces, linearize = [], feature_map.linearize
    monkeypatch.setattr(feature_map, "linearize", lambda *a, **k: traces.append(1) or linearize(*a, **k))
    features = FeatureMap(mixed, WEIGHT, points_at_once=2)
    features.tangents(X, rand(5, 1, 3, 2))
    features.tangents(X[:4], rand(4, 2, 3, 2))
    assert len(traces) == 1
    features.tangents(X[:1], rand(1, 1, 3, 2))
    assert len(traces) == 2


def test_of_a_model(tiny_model, tiny_point) -> None:
    features = FeatureMap.at(tiny_model, tiny_point, "mid")
    x = torch.cat([tiny_point.sample, 0.5 * tiny_point.sample])
    v = rand(2, 1, 3, 16, 16)
    t = torch.tensor(tiny_point.timestep)
    torch.testing.assert_close(features.values(x), tiny_model.feature_map("mid")(x, t))
    lin = tiny_model.linearization("mid", x, t)
    torch.testing.assert_close(features.tangents(x, v)[:, 0], lin.jvp(v.transpose(0, 1).contiguous())[0])


def test_conditioning_is_repeated_for_every_sample(tiny_model, tiny_point) -> None:
    point = point_at(tiny_point.sample, conditioning=latentjac.Conditioning({"shift": rand(1, 3, 16, 16)}))
    network = tiny_model.network
    shifted = latentjac.Model(_Shifted(network), tiny_model.scheduler, call=lambda net, x, t, c: net(x, t, c["shift"]))
    x = rand(3, 3, 16, 16)
    found = FeatureMap.at(shifted, point, "eps").values(x)
    torch.testing.assert_close(found, network(x + point.conditioning["shift"], torch.tensor(599))[0])


class _Shifted(torch.nn.Module):
    """A network with one conditioning tensor a sample."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.config = network, network.config

    def forward(self, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        assert len(c) == len(x)
        return self.inner(x + c, t).sample


def test_non_finite_features_are_refused() -> None:
    with pytest.raises(latentjac.NonFiniteError, match="f must be finite"):
        FeatureMap(lambda x: x / (x - x)).values(X)
