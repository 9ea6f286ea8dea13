"""Valid arguments of public functions: singular triplets, linearizations and geometry."""

from __future__ import annotations

import torch
from calls.things import Arguments, Baseline, call, seeded
from networks import rand

import latentjac as lj
from latentjac import geometry
from latentjac.solvers import Krylov, Randomized, Subspace

_SOLVER: Arguments = {"k": 2, "tol": 0.1, "max_passes": 100}

BASELINES: dict[str, Baseline] = {
    "local_basis": lambda c: call(lj.local_basis, model=c.model, point=c.point, layer="mid", **_SOLVER),
    "local_basis/warm": lambda c: call(
        lj.local_basis,
        model=c.model,
        point=c.point,
        warm_start=c.basis,
        solver=Krylov(block_size=2, confirm=0),
        **_SOLVER,
    ),
    "basis_path": lambda c: call(
        lj.basis_path,
        model=c.model,
        trajectory=c.path,
        timesteps=[0.9],
        k=2,
        tol=0.5,
        layer="mid",
        solver=Krylov(block_size=2, confirm=0),
    ),
    "BasisPath.__getitem__": lambda c: call(c.bases.__getitem__, index=0),
    "LocalBasis.load": lambda c: call(lj.LocalBasis.load, path=c.saved, model=None),
    "LocalBasis.save": lambda c: call(c.basis.save, path=c.folder / "again.safetensors"),
    "LocalBasis.point": lambda c: call(c.three.point, index=1),
    "LocalBasis.to": lambda c: call(c.basis.to, device="cpu", dtype=torch.float32),
    "svd": lambda c: call(lj.svd, operator=c.operator, k=2, tol=0.1, max_passes=50, solver=Krylov(block_size=2)),
    "svd/warm": lambda c: call(
        lj.svd,
        operator=c.operator,
        k=2,
        tol=0.1,
        warm_start=rand(2, 8),
        refine_with=c.operator,
        max_seconds=9.0,
    ),
    "svd/subspace": lambda c: call(
        lj.svd, operator=c.operator, k=2, tol=0.5, solver=Subspace(stop="park2023", vectors="park2023")
    ),
    "svd/randomized": lambda c: call(
        lj.svd,
        operator=c.operator,
        k=2,
        tol=0.5,
        solver=Randomized(oversampling=2, power_steps=1),
        generator=seeded(),
    ),
    "Krylov": lambda c: call(lj.solvers.Krylov, block_size=2, confirm=0),
    "Krylov/measured": lambda c: call(lj.solvers.Krylov, block_size="measured"),
    "Subspace": lambda c: call(lj.solvers.Subspace, stop="park2023", vectors="ritz"),
    "Randomized": lambda c: call(lj.solvers.Randomized, oversampling=2, power_steps=1),
    "effective_rank": lambda c: call(
        lj.effective_rank, operator=c.operator, k=2, probes=3, steps=2, threshold=0.1, confidence=0.9
    ),
    "effective_rank/basis": lambda c: call(
        lj.effective_rank,
        operator=c.operator,
        k=2,
        probes=3,
        steps=2,
        basis=c.of_operator,
        generator=seeded(),
    ),
    "EffectiveRank.count_above": lambda c: call(c.rank.count_above, s=0.5),
    "EffectiveRank.count_holding": lambda c: call(c.rank.count_holding, part=0.5),
    "Certificate.names": lambda c: call(lj.solvers.Certificate.names),
    "linearize": lambda c: call(lj.linearize, f=c.f, x=rand(1, 6), backend="auto", chunk_size=2, cuda_graphs="auto"),
    "linearize/autodiff": lambda c: call(
        lj.linearize, f=c.f, x=rand(1, 6).float(), backend="autodiff", chunk_size=2, cuda_graphs=False, precision="fp32"
    ),
    # geometry
    "FeatureMap": lambda c: call(lj.geometry.FeatureMap, f=c.f, backend="auto", points_at_once=2),
    "FeatureMap.at": lambda c: call(
        lj.geometry.FeatureMap.at, model=c.model, point=c.point, layer="mid", backend="auto", points_at_once=2
    ),
    "FeatureMap.values": lambda c: call(c.features.values, x=rand(2, 6)),
    "FeatureMap.tangents": lambda c: call(c.features.tangents, x=rand(2, 6), v=rand(2, 3, 6)),
    "FeatureMap.cotangents": lambda c: call(c.features.cotangents, x=rand(2, 6), u=rand(2, 3, 6)),
    "direction_curvature": lambda c: call(
        lj.geometry.direction_curvature, features=c.features, x=rand(1, 6), directions=rand(2, 6, seed=3), step=0.01
    ),
    "feature_linearity": lambda c: call(
        lj.geometry.feature_linearity,
        features=c.features,
        x=rand(1, 6),
        directions=rand(2, 6, seed=3),
        lengths=[0.1, 0.2],
    ),
    "FeatureLinearity.radius": lambda c: call(c.linearity.radius, tolerance=0.1),
    "measure_path": lambda c: call(lj.geometry.measure_path, features=c.features, samples=rand(3, 6), batched=False),
    "measure_path/batched": lambda c: call(
        lj.geometry.measure_path, features=c.features, samples=rand(2, 3, 6), batched=True
    ),
    "ascent_directions": lambda c: call(geometry.ascent_directions, features=c.features, x=rand(1, 6), u=rand(2, 6)),
    "sparse_directions": lambda c: call(lj.geometry.sparse_directions, basis=c.basis, channels=0),
    "principal_components": lambda c: call(lj.geometry.principal_components, data=rand(5, 6), k=2),
    "power_spectrum": lambda c: call(lj.geometry.power_spectrum, directions=rand(2, 3, 4, 4), cutoff=0.2),
    "principal_angles": lambda c: call(lj.geometry.principal_angles, a=c.rows[0], b=c.rows[1], space="x"),
    "principal_angles/bases": lambda c: call(lj.geometry.principal_angles, a=c.exact, b=c.three, space="h"),
    "subspace_distance": lambda c: call(lj.geometry.subspace_distance, a=c.rows[0], b=c.rows[1], space="x"),
    "pairwise_distances": lambda c: call(geometry.pairwise_distances, bases=c.rows, space="x"),
    "pairwise_distances/bases": lambda c: call(geometry.pairwise_distances, bases=[c.exact, c.three], space="h"),
    "frechet_mean": lambda c: call(lj.geometry.frechet_mean, bases=c.rows, space="h", tol=1e-6, max_iterations=50),
    "FrechetMean.spread": lambda c: call(c.mean.spread, confidence=0.9),
    "global_directions": lambda c: call(lj.geometry.global_directions, bases=c.three, method="frechet", confidence=0.9),
    "global_directions/matched": lambda c: call(
        lj.geometry.global_directions, bases=[c.exact, c.three], method="matched"
    ),
    "GlobalDirections.at": lambda c: call(c.directions.at, basis=c.exact, method="pseudoinverse", regularization=0.1),
    "matched_mean": lambda c: call(geometry.matched_mean, bases=c.rows, space="h"),
    "assign": lambda c: call(geometry.assign, cost=rand(4, 4)),
    "grassmann_log": lambda c: call(geometry.grassmann_log, p=c.rows[0], q=c.rows[1]),
    "grassmann_exp": lambda c: call(
        geometry.grassmann_exp, p=c.rows[0], tangent=geometry.grassmann_log(c.rows[0], c.rows[1])
    ),
    "parallel_transport": lambda c: call(
        lj.geometry.parallel_transport,
        direction=c.exact.v,
        source=c.exact,
        target=c.three,
        method="pseudoinverse",
        regularization=0.1,
    ),
    "pull_back": lambda c: call(lj.geometry.pull_back, u=c.exact.u, target=c.three, method="park2023"),
    "pullback_inner": lambda c: call(lj.geometry.pullback_inner, source=c.lin, a=rand(2, 6), b=rand(2, 6, seed=2)),
    "pullback_norm": lambda c: call(lj.geometry.pullback_norm, source=c.exact, v=rand(2, 2, 3)),
    "sample_mean": lambda c: call(geometry.sample_mean, values=rand(5, 2), method="student", confidence=0.9),
    "SampleMean.map": lambda c: call(geometry.sample_mean(rand(5, 2)).map, f=torch.exp),
    "sample_mean/bootstrap": lambda c: call(
        geometry.sample_mean,
        values=rand(5),
        method="bootstrap",
        confidence=0.9,
        resamples=50,
        generator=seeded(),
    ),
    "jackknife": lambda c: call(
        geometry.jackknife, statistic=lambda kept: kept.double().mean(), samples=5, confidence=0.9
    ),
    "pair_mean": lambda c: call(geometry.pair_mean, table=rand(4, 4), confidence=0.9),
    "pairs_of": lambda c: call(geometry.pairs_of, table=rand(4, 4), kept=torch.arange(3)),
    "rank_correlation": lambda c: call(geometry.rank_correlation, a=rand(5), b=rand(5, seed=2)),
}
