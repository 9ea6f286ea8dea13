"""Ways to edit, one a file: each a frozen dataclass of its own options that walks."""

from latentjac.edit_options import METHODS
from latentjac.editing.methods.geodesic import Geodesic
from latentjac.editing.methods.guidance import ConstantGain, Guidance, Reestimation
from latentjac.editing.methods.h_space import HSpace
from latentjac.editing.methods.linear import Linear
from latentjac.editing.methods.method import Job, Method
from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.result import Walked

BY_NAME: dict[str, type[XSpaceMethod] | type[HSpace]] = {name: globals()[kind] for name, kind in METHODS.items()}

__all__ = [
    "BY_NAME",
    "ConstantGain",
    "Geodesic",
    "Guidance",
    "HSpace",
    "Job",
    "Linear",
    "Method",
    "Reestimation",
    "Walked",
    "XSpaceMethod",
]
