"""Edits along directions."""

from latentjac.edit.diagnostics import Along
from latentjac.edit.edit import edit
from latentjac.edit.frames import Frames, walk_frames
from latentjac.edit.linearity import Linearity, measure_linearity
from latentjac.edit.masks import masked_basis
from latentjac.edit.null_space import null_space, project_out
from latentjac.edit.result import Edit
from latentjac.edit.walk import Way

__all__ = [
    "Along",
    "Edit",
    "Frames",
    "Linearity",
    "Way",
    "edit",
    "masked_basis",
    "measure_linearity",
    "null_space",
    "project_out",
    "walk_frames",
]
