"""What published code computes: a module for each paper, put together from public parts of the layers below."""

from latentjac.papers import park2023

__all__ = ["park2023"]
