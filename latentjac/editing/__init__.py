"""Edits along directions."""

from latentjac.editing.applying import Applied
from latentjac.editing.carrying import AsIs, Carried, Carry, Transported
from latentjac.editing.diagnostics import Along
from latentjac.editing.edit import edit
from latentjac.editing.frames import Frames, walk_frames
from latentjac.editing.masks import Mask, masked_basis
from latentjac.editing.methods import Geodesic, Guidance, HSpace, Linear, Method, Reestimation, XSpaceMethod
from latentjac.editing.null_space import null_space, project_out
from latentjac.editing.result import Edit
from latentjac.editing.slider import Slider
from latentjac.editing.walk import Way

__all__ = [
    "Along",
    "Applied",
    "AsIs",
    "Carried",
    "Carry",
    "Edit",
    "Frames",
    "Geodesic",
    "Guidance",
    "HSpace",
    "Linear",
    "Mask",
    "Method",
    "Reestimation",
    "Slider",
    "Transported",
    "Way",
    "XSpaceMethod",
    "edit",
    "masked_basis",
    "null_space",
    "project_out",
    "walk_frames",
]
