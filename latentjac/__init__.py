"""latentjac: which directions at this noisy image does a diffusion network listen to?

Top singular triplets of the Jacobian of any feature map of a diffusion network, and what they are good
for: editing, transport and geometry.
"""

import logging

from latentjac.diffusion import Point, Trajectory, invert, noise_point, sample
from latentjac.edit import Edit, edit
from latentjac.geometry import local_basis
from latentjac.linearize import Linearization, NonFiniteError, linearize
from latentjac.models import LoadError, Model, builtin_models, load, prepare_image
from latentjac.svd import ConvergenceError, LocalBasis, SolverState, Status, svd

__all__ = [
    "ConvergenceError",
    "Edit",
    "Linearization",
    "LoadError",
    "LocalBasis",
    "Model",
    "NonFiniteError",
    "Point",
    "SolverState",
    "Status",
    "Trajectory",
    "builtin_models",
    "edit",
    "invert",
    "linearize",
    "load",
    "local_basis",
    "noise_point",
    "prepare_image",
    "sample",
    "svd",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
