"""Edits along directions."""

from latentjac.editing.diagnostics import Along
from latentjac.editing.edit import edit
from latentjac.editing.frames import Frames, walk_frames
from latentjac.editing.linearity import Linearity, measure_linearity
from latentjac.editing.masks import masked_basis
from latentjac.editing.null_space import null_space, project_out
from latentjac.editing.result import Edit
from latentjac.editing.walk import Way

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
