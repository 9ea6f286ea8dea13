"""latentjac: which directions at this noisy image does a diffusion network listen to?

Top singular triplets of the Jacobian of any feature map of a diffusion network, and what they are good
for: editing, transport and geometry.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from latentjac.notebooks import draw_with as _draw_with

if TYPE_CHECKING:
    # Functions from the modules of their names, which mypy would take them for.
    from latentjac.diffusion import Point, Trajectory, invert, noise_point, sample
    from latentjac.editing import Edit, Slider
    from latentjac.editing.edit import edit
    from latentjac.files import FileError
    from latentjac.geometry.basis_path import basis_path
    from latentjac.geometry.local_basis import local_basis
    from latentjac.linearization import Linearization, NonFiniteError, linearize
    from latentjac.models import Conditioning, LoadError, Model, builtin_models, load, prepare_image
    from latentjac.solvers import ConvergenceError, LocalBasis, Status, effective_rank, svd
    from latentjac.stopping import StoppedError, limits

__all__ = [
    "Conditioning",
    "ConvergenceError",
    "Edit",
    "FileError",
    "Linearization",
    "LoadError",
    "LocalBasis",
    "Model",
    "NonFiniteError",
    "Point",
    "Slider",
    "Status",
    "StoppedError",
    "Trajectory",
    "basis_path",
    "builtin_models",
    "edit",
    "effective_rank",
    "invert",
    "limits",
    "linearize",
    "load",
    "local_basis",
    "noise_point",
    "prepare_image",
    "sample",
    "svd",
]

__version__ = "0.1.0"

# Where these names come from; the lower layers first.
_HOMES = ("files", "stopping", "linearization", "solvers", "models", "diffusion", "geometry", "editing")
_MODULES = (*_HOMES, "arguments", "batch", "explore", "kernels", "papers", "report", "studies")

# What is shown lies below what shows it.
_draw_with(lambda result: import_module(f"{__name__}.report.notebook").html_of(result))
logging.getLogger(__name__).addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # a type checker that sees this function believes in every name

    def __getattr__(name: str) -> object:
        """Import what is asked for when it is asked for: torch takes seconds, which ``latentjac --help`` can save."""
        if name in __all__:
            homes = (vars(import_module(f"{__name__}.{home}")) for home in _HOMES)
            found = next(home[name] for home in homes if callable(home.get(name)))
        elif name in _MODULES:
            found = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
