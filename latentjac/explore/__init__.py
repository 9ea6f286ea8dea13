"""A local web application: a photo, its directions, and sliders along them."""

from latentjac.explore.session import Question, Session, Shared

__all__ = ["Question", "Session", "Shared"]
