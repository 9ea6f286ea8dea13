"""Studies of a model's local geometry, each a question with a number for an answer."""

from latentjac.study.finding import Axes, Curve, Finding, Heat
from latentjac.study.registry import STUDIES, Study
from latentjac.study.settings import Settings

__all__ = ["STUDIES", "Axes", "Curve", "Finding", "Heat", "Settings", "Study"]
