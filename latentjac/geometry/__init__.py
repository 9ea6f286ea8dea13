"""Tangent spaces of x-space and what is measured in them."""

from latentjac.geometry.basis_path import BasisPath, basis_path
from latentjac.geometry.local_basis import local_basis

__all__ = ["BasisPath", "basis_path", "local_basis"]
