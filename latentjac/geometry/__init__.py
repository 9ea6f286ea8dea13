"""Tangent spaces of x-space and what is measured in them."""

from latentjac.geometry.local_basis import local_basis

__all__ = ["local_basis"]
