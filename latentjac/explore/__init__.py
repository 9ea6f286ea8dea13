"""A local web application: a photo, its directions, and sliders along them."""

from latentjac.explore.session import Session
from latentjac.explore.state import Question, Shared

__all__ = ["Question", "Session", "Shared"]
