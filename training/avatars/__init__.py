"""Drawn avatars whose factors are known: pictures with ground truth for what a direction changes."""

from .drawing import draw
from .factors import BY_NAME, FACTORS, HAIR_STYLES, Factor, Factors, check_factors, sample_factors

__all__ = ["BY_NAME", "FACTORS", "HAIR_STYLES", "Factor", "Factors", "check_factors", "draw", "sample_factors"]
