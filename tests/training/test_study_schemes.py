"""The study of schemes: differences of Fréchet distances, with intervals from groups of samples."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")
import study_schemes
from measures import frechet_distance


def test_the_same_samples_are_as_near_and_others_differ_by_the_difference_of_distances() -> None:
    rng = np.random.default_rng(0)
    real, first = rng.normal(size=(200, 4)), rng.normal(size=(120, 4))
    assert study_schemes.farther_by(first, first, real) == {"mean": 0.0, "low": 0.0, "high": 0.0}
    farther = study_schemes.farther_by(first + 2, first, real)
    assert farther["mean"] == pytest.approx(frechet_distance(first + 2, real) - frechet_distance(first, real))
    assert 0 < farther["low"] < farther["mean"] < farther["high"]
    assert farther["mean"] == pytest.approx(16, rel=0.2)  # four means that are 2 away
