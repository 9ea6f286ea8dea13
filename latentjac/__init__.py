"""latentjac: which directions at this noisy image does a diffusion network listen to?

Top singular triplets of the Jacobian of any feature map of a diffusion network, and what they are good
for: editing, transport and geometry.
"""

import logging

from latentjac.diffusion import Point, Trajectory, invert, noise_point, sample
from latentjac.edit import Edit, Frames, edit, masked_basis, null_space, project_out, walk_frames
from latentjac.files import FileError
from latentjac.geometry import (
    BasisPath,
    FeatureMap,
    GlobalDirections,
    Transport,
    basis_path,
    direction_curvature,
    feature_linearity,
    frechet_mean,
    global_directions,
    local_basis,
    measure_path,
    parallel_transport,
    power_spectrum,
    principal_angles,
    principal_components,
    pull_back,
    pullback_inner,
    pullback_norm,
    subspace_distance,
)
from latentjac.linearize import Linearization, NonFiniteError, linearize
from latentjac.models import LoadError, Model, builtin_models, load, prepare_image
from latentjac.svd import (
    Certificate,
    ConvergenceError,
    EffectiveRank,
    LocalBasis,
    SolverState,
    Status,
    effective_rank,
    svd,
)

__all__ = [
    "BasisPath",
    "Certificate",
    "ConvergenceError",
    "Edit",
    "EffectiveRank",
    "FeatureMap",
    "FileError",
    "Frames",
    "GlobalDirections",
    "Linearization",
    "LoadError",
    "LocalBasis",
    "Model",
    "NonFiniteError",
    "Point",
    "SolverState",
    "Status",
    "Trajectory",
    "Transport",
    "basis_path",
    "builtin_models",
    "direction_curvature",
    "edit",
    "effective_rank",
    "feature_linearity",
    "frechet_mean",
    "global_directions",
    "invert",
    "linearize",
    "load",
    "local_basis",
    "masked_basis",
    "measure_path",
    "noise_point",
    "null_space",
    "parallel_transport",
    "power_spectrum",
    "prepare_image",
    "principal_angles",
    "principal_components",
    "project_out",
    "pull_back",
    "pullback_inner",
    "pullback_norm",
    "sample",
    "subspace_distance",
    "svd",
    "walk_frames",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
