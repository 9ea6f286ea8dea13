"""Models are compared alike, and simpler data hold only if distances and captured energy agree."""

from __future__ import annotations

import pytest
import torch
from networks import rand

from latentjac.studies import STUDIES, Settings
from latentjac.studies.complexity import finding_of
from latentjac.studies.over_levels import OverLevels

TINY = Settings(samples=2, levels=(0.9, 0.6, 0.1), k=2, tol=1e-6, steps=10)


def measured(distance: float, captured: float, seed: int) -> tuple[OverLevels, torch.Tensor]:
    """Eight samples at three levels that scatter by 0.01 about these means."""
    noise = 0.01 * rand(2, 8, 3, 3, seed=seed)
    over = OverLevels([0.9, 0.5, 0.1], {s: distance + noise[0] for s in "xh"}, captured + noise[1], noise[0, :, 0])
    return over, torch.zeros(8, 3, dtype=torch.float64)


def test_holds_where_distances_are_smaller_and_energy_larger() -> None:
    finding = finding_of({"photos": measured(0.7, 0.3, 1), "drawings": measured(0.6, 0.4, 2)})
    assert finding.holds
    assert finding.number == pytest.approx(0.1, abs=0.01)
    assert finding.interval[0] == pytest.approx(0.1, abs=0.02)
    assert finding.sentence.startswith("Tangent spaces of drawings change less over timesteps than those of photos")
    assert "0.60 against 0.70" in finding.sentence
    assert set(finding.table["model"]) == {"photos", "drawings"}


@pytest.mark.parametrize(("distance", "captured"), [(0.6, 0.3), (0.7, 0.4), (0.8, 0.2)])
def test_does_not_hold_where_one_of_the_two_says_otherwise(distance: float, captured: float) -> None:
    finding = finding_of({"photos": measured(0.7, 0.3, 1), "drawings": measured(distance, captured, 1)})
    assert not finding.holds
    assert "do not surely change less" in finding.sentence


def test_a_model_does_not_differ_from_itself(tiny_model) -> None:
    finding = STUDIES["complexity"].run([tiny_model, tiny_model], TINY)
    # Not exactly 0: the solver chooses its block size by the costs it measures.
    assert finding.number == pytest.approx(0, abs=1e-4)
    assert finding.interval == pytest.approx((0, 0), abs=1e-3)
    labels = sorted(set(finding.table["model"]))
    assert len(labels) == 2
    assert [label[-3:] for label in labels] == ["(1)", "(2)"]
    gaps = next(curve for curve in finding.curves if curve.axes.y.startswith("gap"))
    assert all(0 <= gap < 1 for gap in gaps.y)


def test_one_model_is_refused(tiny_model) -> None:
    with pytest.raises(ValueError, match="complexity: models must be at least two, got 1"):
        STUDIES["complexity"].run([tiny_model], TINY)
