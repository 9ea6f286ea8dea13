"""Studies of a model's local geometry, each a question with a number for an answer."""

from latentjac.studies.finding import Axes, Curve, Finding, Heat
from latentjac.studies.registry import STUDIES, Study
from latentjac.studies.settings import Settings

__all__ = ["STUDIES", "Axes", "Curve", "Finding", "Heat", "Settings", "Study"]
