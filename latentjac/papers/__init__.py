"""What published code computes, put together from public parts: one module a paper, whose functions it is called by."""

from latentjac.papers import park2023

__all__ = ["park2023"]
