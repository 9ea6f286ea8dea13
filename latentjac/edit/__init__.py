"""Edits along directions."""

from latentjac.edit.edit import Edit, edit
from latentjac.edit.linearity import Linearity, measure_linearity

__all__ = ["Edit", "Linearity", "edit", "measure_linearity"]
