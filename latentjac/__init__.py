"""latentjac: which directions at this noisy image does a diffusion network listen to?

Top singular triplets of the Jacobian of any feature map of a diffusion network, and what they are good
for: editing, transport and geometry.
"""

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Functions from the modules of their names, which mypy would take them for.
    from latentjac.diffusion import Point, Trajectory, invert, noise_point, sample
    from latentjac.edit import Edit, Frames, masked_basis, project_out, walk_frames
    from latentjac.edit.edit import edit
    from latentjac.edit.null_space import null_space
    from latentjac.files import FileError
    from latentjac.geometry import (
        BasisPath,
        FeatureMap,
        GlobalDirections,
        Transport,
        direction_curvature,
        frechet_mean,
        measure_path,
        parallel_transport,
        principal_angles,
        principal_components,
        pull_back,
        pullback_inner,
        pullback_norm,
        subspace_distance,
    )
    from latentjac.geometry.basis_path import basis_path
    from latentjac.geometry.feature_linearity import feature_linearity
    from latentjac.geometry.global_directions import global_directions
    from latentjac.geometry.local_basis import local_basis
    from latentjac.geometry.power_spectrum import power_spectrum
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

# Where these names come from; the lower layers first.
_HOMES = ("files", "linearize", "svd", "models", "diffusion", "geometry", "edit")
_MODULES = ("arguments", "compat", "diffusion", "files", "geometry", "kernels", "models", "report", "study")

logging.getLogger(__name__).addHandler(logging.NullHandler())


class _Package(ModuleType):
    """The type of this module, in which ``svd``, ``edit`` and ``linearize`` stay functions.

    Importing the package ``latentjac.svd`` would bind it to the name ``svd`` here, instead of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # a type checker that sees this function believes in every name

    def __getattr__(name: str) -> object:
        """Import what is asked for when it is asked for: torch takes seconds, which ``latentjac --help`` can save."""
        if name in __all__:
            homes = (vars(import_module(f"{__name__}.{home}")) for home in _HOMES)
            found = next(home[name] for home in homes if name in home and not isinstance(home[name], ModuleType))
        elif name in _MODULES:
            found = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
