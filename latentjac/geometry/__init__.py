"""Tangent spaces of x-space and what is measured in them."""

from latentjac.geometry.basis_path import BasisPath, basis_path
from latentjac.geometry.curvature import Curvature, direction_curvature
from latentjac.geometry.feature_map import FeatureMap
from latentjac.geometry.frechet import FrechetMean, frechet_mean
from latentjac.geometry.global_directions import GlobalDirections, global_directions
from latentjac.geometry.grassmann import grassmann_exp, grassmann_log
from latentjac.geometry.intervals import SampleMean, sample_mean
from latentjac.geometry.jackknife import jackknife, pair_mean, pairs_of, rank_correlation
from latentjac.geometry.linearity import FeatureLinearity, Linearity, feature_linearity, measure_linearity
from latentjac.geometry.local_basis import local_basis
from latentjac.geometry.matching import MatchedMean, assign, matched_mean
from latentjac.geometry.metric import pullback_inner, pullback_norm
from latentjac.geometry.path import PathMeasure, measure_path
from latentjac.geometry.pca import PrincipalComponents, ascent_directions, principal_components
from latentjac.geometry.power_spectrum import PowerSpectrum, power_spectrum
from latentjac.geometry.sparse_directions import SparseDirections, sparse_directions
from latentjac.geometry.subspaces import SubspaceDistance, pairwise_distances, principal_angles, subspace_distance
from latentjac.geometry.transport import Transport, parallel_transport, pull_back

__all__ = [
    "BasisPath",
    "Curvature",
    "FeatureLinearity",
    "FeatureMap",
    "FrechetMean",
    "GlobalDirections",
    "Linearity",
    "MatchedMean",
    "PathMeasure",
    "PowerSpectrum",
    "PrincipalComponents",
    "SampleMean",
    "SparseDirections",
    "SubspaceDistance",
    "Transport",
    "ascent_directions",
    "assign",
    "basis_path",
    "direction_curvature",
    "feature_linearity",
    "frechet_mean",
    "global_directions",
    "grassmann_exp",
    "grassmann_log",
    "jackknife",
    "local_basis",
    "matched_mean",
    "measure_linearity",
    "measure_path",
    "pair_mean",
    "pairs_of",
    "pairwise_distances",
    "parallel_transport",
    "power_spectrum",
    "principal_angles",
    "principal_components",
    "pull_back",
    "pullback_inner",
    "pullback_norm",
    "rank_correlation",
    "sample_mean",
    "sparse_directions",
    "subspace_distance",
]
