"""Every wrong input of a measure names the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from geometry.subspaces import basis_of, orthonormal
from networks import rand

import latentjac as lj
from latentjac import geometry as g

JACOBIAN = rand(5, 6)
BASIS = basis_of(JACOBIAN, k=2, x=(2, 3), y=(5,))
THREE = basis_of(JACOBIAN, JACOBIAN, JACOBIAN, k=2, x=(2, 3), y=(5,))
FEATURES = lj.geometry.FeatureMap(lambda x: 2 * x)
X, V = rand(1, 4), rand(2, 4)
ROWS = orthonormal(2, 6, 0)
ZERO, NAN = torch.zeros(1, 4).double(), torch.full((1, 4), float("nan"))
LIN = lj.linearize(lambda x: 2 * x, X, backend="autodiff")
OUTSIDE = (orthonormal(6, 6, 3)[:1] @ (torch.eye(6).double() - BASIS.v.flatten(1).T @ BASIS.v.flatten(1))).view(1, 2, 3)

Row = tuple[str, Callable[[], object], type[Exception], str]
TABLE: list[Row] = [
    # metric
    (
        "source",
        lambda: lj.geometry.pullback_norm("J", V),
        TypeError,
        "pullback_norm: source must have x, y, jvp.*got str",
    ),
    ("v type", lambda: lj.geometry.pullback_norm(LIN, [1.0]), TypeError, "v must be a torch.Tensor, got list"),
    (
        "v int",
        lambda: lj.geometry.pullback_norm(LIN, torch.ones(1, 4).long()),
        ValueError,
        "v must be a floating.*int64",
    ),
    ("v nan", lambda: lj.geometry.pullback_norm(LIN, NAN), ValueError, "v must be finite, got NaN"),
    (
        "v shape",
        lambda: lj.geometry.pullback_norm(LIN, V[:, :3]),
        ValueError,
        r"v must have shape \[q, 4\] or \[1, q, 4\], got \[2, 3",
    ),
    ("v none", lambda: lj.geometry.pullback_norm(LIN, V[:0]), ValueError, r"v must have shape .*got \[0, 4\]"),
    (
        "v basis",
        lambda: lj.geometry.pullback_norm(BASIS, V),
        ValueError,
        r"v must have shape \[q, 2, 3\].*got \[2, 4\]",
    ),
    (
        "a and b",
        lambda: lj.geometry.pullback_inner(LIN, V, V[:1]),
        ValueError,
        r"b must have the shape of a, \[2, 4\], got \[1, 4\]",
    ),
    # subspaces
    (
        "a type",
        lambda: lj.geometry.principal_angles("a", ROWS),
        TypeError,
        "a must be a LocalBasis or a torch.Tensor, got str",
    ),
    (
        "b shape",
        lambda: lj.geometry.principal_angles(ROWS, ROWS[0]),
        ValueError,
        r"b must have shape \[k, n\] or .*got \[6\]",
    ),
    ("b wide", lambda: lj.geometry.principal_angles(ROWS, ROWS.T), ValueError, r"k <= n, got \[6, 2\]"),
    (
        "skew",
        lambda: lj.geometry.principal_angles(ROWS, 2 * ROWS),
        ValueError,
        r"b must have orthonormal rows, got .* of 3.0e\+00",
    ),
    (
        "space",
        lambda: lj.geometry.principal_angles(BASIS, BASIS, "z"),
        ValueError,
        r"space must be one of \['x', 'h'\], got 'z'",
    ),
    (
        "other n",
        lambda: lj.geometry.principal_angles(ROWS, orthonormal(2, 7, 0)),
        ValueError,
        "space of a, of dimension 6, got 7",
    ),
    (
        "points",
        lambda: lj.geometry.principal_angles(THREE, BASIS.v.flatten(1).expand(2, 2, 6)),
        ValueError,
        "1 or 3 points.*got 2",
    ),
    ("one", lambda: g.pairwise_distances([BASIS]), ValueError, "bases must hold at least 2 samples, got 1"),
    ("none", lambda: g.pairwise_distances([]), TypeError, "sequence of them, got none"),
    ("number", lambda: g.pairwise_distances(3), TypeError, "sequence of them, got int"),
    ("ks", lambda: g.pairwise_distances([ROWS, ROWS[:1]]), ValueError, r"agree in k .*\[\(1, 6\), \(2, 6\)\]"),
    ("item", lambda: g.pairwise_distances([ROWS, 1]), TypeError, r"bases\[1\] must be a LocalBasis.*got int"),
    # power spectrum
    (
        "picture",
        lambda: lj.geometry.power_spectrum(V),
        ValueError,
        r"directions must have shape \[..., C, H, W\], got \[2, 4\]",
    ),
    (
        "dark",
        lambda: lj.geometry.power_spectrum(torch.zeros(2, 3, 4, 4)),
        ValueError,
        r"must not be zero, got zero at \[0\]",
    ),
    (
        "cutoff",
        lambda: lj.geometry.power_spectrum(rand(1, 4, 4), 2.0),
        ValueError,
        r"cutoff must be a number in \(0, 0.71\), got 2.0",
    ),
    # feature maps and what uses them
    ("f", lambda: lj.geometry.FeatureMap("f"), TypeError, "FeatureMap: f must be callable, got str"),
    (
        "at once",
        lambda: lj.geometry.FeatureMap(abs, points_at_once=0),
        ValueError,
        "points_at_once must be at least 1, got 0",
    ),
    (
        "at once type",
        lambda: lj.geometry.FeatureMap(abs, points_at_once=2.0),
        TypeError,
        "points_at_once must be an int, got float",
    ),
    ("model", lambda: lj.geometry.FeatureMap.at("faces", None), TypeError, "model must be a latentjac.Model.*got str"),
    (
        "features",
        lambda: lj.geometry.measure_path(abs, X),
        TypeError,
        "features must be a latentjac.geometry.FeatureMap, got builtin",
    ),
    (
        "zero",
        lambda: lj.geometry.feature_linearity(FEATURES, X, ZERO, [1.0]),
        ValueError,
        r"directions must not be zero.*\[0, 0\]",
    ),
    (
        "lengths",
        lambda: lj.geometry.feature_linearity(FEATURES, X, V, [2.0, 1.0]),
        ValueError,
        r"ascending, got \[2.0, 1.0\]",
    ),
    (
        "length",
        lambda: lj.geometry.feature_linearity(FEATURES, X, V, [-1.0]),
        ValueError,
        r"lengths must be .*\(0, inf\), got -1.0",
    ),
    (
        "no length",
        lambda: lj.geometry.feature_linearity(FEATURES, X, V, []),
        ValueError,
        "lengths must be a non-empty.*got none",
    ),
    (
        "a length",
        lambda: lj.geometry.feature_linearity(FEATURES, X, V, 1.0),
        TypeError,
        "lengths must be a non-empty.*got float",
    ),
    (
        "step",
        lambda: lj.geometry.direction_curvature(FEATURES, X, V, 0.0),
        ValueError,
        r"step must be a number in \(0, inf\), got 0",
    ),
    (
        "deaf",
        lambda: lj.geometry.direction_curvature(lj.geometry.FeatureMap(lambda x: 0 * x), X, V),
        ValueError,
        r"directions must move the features, got no response at \[0, 0\]",
    ),
    (
        "walk",
        lambda: lj.geometry.measure_path(FEATURES, X),
        ValueError,
        r"samples must have shape \[n >= 2, ...\], got \[1, 4\]",
    ),
    (
        "walks",
        lambda: lj.geometry.measure_path(FEATURES, V, True),
        ValueError,
        r"\[B, n >= 2, ...\] with batched=True, got \[2, 4\]",
    ),
    # transport
    (
        "from",
        lambda: lj.geometry.parallel_transport(BASIS.v, ROWS, BASIS),
        TypeError,
        "source must be a LocalBasis, got Tensor",
    ),
    (
        "to",
        lambda: lj.geometry.parallel_transport(BASIS.v, BASIS, ROWS),
        TypeError,
        "target must be a LocalBasis, got Tensor",
    ),
    (
        "direction",
        lambda: lj.geometry.parallel_transport(V, BASIS, BASIS),
        ValueError,
        r"direction must have shape \[q, 2, 3\].*\[2, 4",
    ),
    (
        "outside",
        lambda: lj.geometry.parallel_transport(OUTSIDE, BASIS, BASIS),
        ValueError,
        "part in the span of source.v, got none",
    ),
    (
        "other layer",
        lambda: lj.geometry.parallel_transport(BASIS.v, BASIS, basis_of(JACOBIAN[:4], k=2, x=(2, 3))),
        ValueError,
        r"target must have features of shape \[5\] as source has, got \[4\]",
    ),
    (
        "other points",
        lambda: lj.geometry.parallel_transport(THREE.v, THREE, basis_of(JACOBIAN, JACOBIAN, k=2, x=(2, 3))),
        ValueError,
        "target must hold 1 or 3 points as source does, got 2",
    ),
    ("u", lambda: lj.geometry.pull_back(V, BASIS), ValueError, r"u must have shape \[q, 5\].*got \[2, 4\]"),
    (
        "u points",
        lambda: lj.geometry.pull_back(rand(2, 1, 5), THREE),
        ValueError,
        "u must be for 1 or 3 points as target is, got 2",
    ),
    (
        "u outside",
        lambda: lj.geometry.pull_back(basis_of(JACOBIAN, k=5).u[3:], BASIS),
        ValueError,
        "u must have a part in the span of target.u, got none at index",
    ),
    (
        "method",
        lambda: lj.geometry.pull_back(BASIS.u, BASIS, "pinv"),
        ValueError,
        r"method must be one of \['park2023'.*got 'pinv'",
    ),
    (
        "tikhonov",
        lambda: lj.geometry.pull_back(BASIS.u, BASIS, "pseudoinverse", -1),
        ValueError,
        r"in \[0, 1000000.0\), got -1",
    ),
    (
        "unused",
        lambda: lj.geometry.pull_back(BASIS.u, BASIS, "park2023", 0.1),
        ValueError,
        r"left at 0.0 with method=.*got 0.1",
    ),
    # means
    (
        "tol type",
        lambda: lj.geometry.frechet_mean([ROWS, ROWS], tol="small"),
        TypeError,
        "tol must be a number, got str",
    ),
    (
        "tol",
        lambda: lj.geometry.frechet_mean([ROWS, ROWS], tol=0),
        ValueError,
        r"tol must be a number in \(0, 1\), got 0",
    ),
    (
        "steps",
        lambda: lj.geometry.frechet_mean([ROWS, ROWS], max_iterations=0),
        ValueError,
        "max_iterations must be at least 1",
    ),
    (
        "global",
        lambda: lj.geometry.global_directions([BASIS, BASIS], "pca"),
        ValueError,
        "one of .*'frechet'.*got 'pca'",
    ),
    (
        "rows",
        lambda: lj.geometry.global_directions([ROWS, ROWS]),
        TypeError,
        r"bases\[0\] must be a LocalBasis, got Tensor",
    ),
    (
        "k",
        lambda: lj.geometry.principal_components(V, 2),
        ValueError,
        r"k must be in .* = \[1, 1\], got 2 for data of .*\[2, 4\]",
    ),
    (
        "same",
        lambda: lj.geometry.principal_components(torch.ones(3, 4), 1),
        ValueError,
        "data must vary, got .* all the same",
    ),
    (
        "unreachable",
        lambda: g.ascent_directions(lj.geometry.FeatureMap(lambda x: 0 * x), X, V),
        ValueError,
        r"u must be reachable from x, got J\^T u = 0 at \[0, 0\]",
    ),
    ("samples", lambda: g.sample_mean(torch.ones(1, 3)), ValueError, r"at least 2 samples, got shape \[1, 3\]"),
    ("interval", lambda: g.sample_mean(V, "normal"), ValueError, "method must be one of .*got 'normal'"),
    ("confidence", lambda: g.sample_mean(V, confidence=95), ValueError, r"confidence must be .*\(0, 1\), got 95"),
    (
        "resamples",
        lambda: g.sample_mean(V, "bootstrap", resamples=1),
        ValueError,
        "resamples must be at least 2, got 1",
    ),
    (
        "no draws",
        lambda: g.sample_mean(V, generator=torch.Generator()),
        ValueError,
        "generator must be left at None unless method='bootstrap', got",
    ),
    (
        "no resamples",
        lambda: g.sample_mean(V, resamples=9),
        ValueError,
        "resamples must be left at 2000 unless method='bootstrap', got 9",
    ),
    ("generator", lambda: g.sample_mean(V, generator=0), TypeError, "generator must be a torch.Generator.*got int"),
]


@pytest.mark.parametrize(("call", "error", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_refusal(call: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert re.search(message, str(caught.value)), str(caught.value)


def test_conditioning_of_several_rows(tiny_model, tiny_point) -> None:
    conditioning = lj.Conditioning({"text": X.expand(2, 4)})
    point = replace(tiny_point, sample=tiny_point.sample.repeat(2, 1, 1, 1), conditioning=conditioning)
    with pytest.raises(ValueError, match=r"point.conditioning must have one row, got 2"):
        lj.geometry.FeatureMap.at(tiny_model, point)


def test_the_table_has_no_row_twice() -> None:
    assert len({row[0] for row in TABLE}) == len(TABLE)
