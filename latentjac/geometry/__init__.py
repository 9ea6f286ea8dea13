"""Tangent spaces of x-space and what is measured in them."""

from latentjac.geometry.basis_path import BasisPath, basis_path
from latentjac.geometry.curvature import Curvature, direction_curvature
from latentjac.geometry.feature_linearity import FeatureLinearity, feature_linearity
from latentjac.geometry.feature_map import FeatureMap
from latentjac.geometry.intervals import SampleMean, sample_mean
from latentjac.geometry.local_basis import local_basis
from latentjac.geometry.metric import pullback_inner, pullback_norm
from latentjac.geometry.path import PathMeasure, measure_path
from latentjac.geometry.power_spectrum import PowerSpectrum, power_spectrum
from latentjac.geometry.subspaces import SubspaceDistance, pairwise_distances, principal_angles, subspace_distance
from latentjac.geometry.transport import Transport, parallel_transport, pull_back

__all__ = [
    "BasisPath",
    "Curvature",
    "FeatureLinearity",
    "FeatureMap",
    "PathMeasure",
    "PowerSpectrum",
    "SampleMean",
    "SubspaceDistance",
    "Transport",
    "basis_path",
    "direction_curvature",
    "feature_linearity",
    "local_basis",
    "measure_path",
    "pairwise_distances",
    "parallel_transport",
    "power_spectrum",
    "principal_angles",
    "pull_back",
    "pullback_inner",
    "pullback_norm",
    "sample_mean",
    "subspace_distance",
]
