"""Studies of the built-in model of faces: what they find. They ask for the same bases, which are computed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import latentjac
from latentjac.studies import STUDIES, Settings, coarse_to_fine, points, tangent_spaces
from latentjac.studies.transport_effects import WAYS

SETTINGS = Settings.small()


@pytest.fixture(scope="module")
def faces() -> Iterator[latentjac.Model]:
    """The model; bases of one point with the same settings are the same for whoever asks for them."""
    found: dict[object, list[latentjac.LocalBasis]] = {}
    compute = points.bases_at

    def bases_at(model, point, settings, layer="mid", bar=None):
        key = model, layer, settings, point.level, point.schedule, point.sample.numpy().tobytes()
        if key not in found:
            found[key] = compute(model, point, settings, layer, bar)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (coarse_to_fine, tangent_spaces):
            patch.setattr(module, "bases_at", bases_at)
        yield latentjac.load("faces")


def test_coarse_to_fine(faces) -> None:
    finding = STUDIES["coarse-to-fine"].run(faces, SETTINGS)
    assert finding.holds
    assert 2.0 < finding.number < 5.0
    assert finding.interval[0] > 1.5
    table = finding.table
    assert len(table["t"]) == 3 * SETTINGS.samples * SETTINGS.k
    assert max(table["residual"]) <= SETTINGS.tol
    assert sorted(set(table["t"]), reverse=True) == [0.899, 0.499, 0.099]
    at_clean = [c for c, t in zip(table["centroid"], table["t"], strict=True) if t == 0.099]
    assert finding.summary["mean"][2] == pytest.approx(sum(at_clean) / len(at_clean))
    assert f"{finding.number:.2f}" in finding.sentence
    assert "coarse to fine" in finding.sentence


def test_timesteps(faces) -> None:
    finding = STUDIES["timesteps"].run(faces, SETTINGS)
    assert finding.holds
    assert 0.08 < finding.number < 0.25
    assert "turns away" in finding.sentence
    x = next(curve for curve in finding.curves if curve.label.startswith("x"))
    assert x.x == (0.4, 0.8)
    assert x.y[1] - x.y[0] == pytest.approx(finding.number)
    table = finding.table
    near = [d for d, apart in zip(table["distance_x"], table["apart"], strict=True) if apart < 0.5]
    assert x.y[0] == pytest.approx(sum(near) / len(near))
    assert max(table["captured_by_chance"]) < 0.02 < min(table["captured"])
    assert [heat.axes.title for heat in finding.heats][-1] == "captured energy"
    assert all(heat.values[i][i] == pytest.approx(1, abs=0.01) for heat in finding.heats[-1:] for i in range(3))


def test_samples(faces) -> None:
    finding = STUDIES["samples"].run(faces, SETTINGS)
    assert 0.3 < finding.number < 0.65
    table = finding.table
    assert list(zip(table["sample"][:3], table["other"][:3], strict=True)) == [(0, 1), (0, 2), (1, 2)]
    for space in ("x", "h"):
        means = torch.tensor(table[f"distance_{space}"]).reshape(3, 3).mean(1)
        curve = next(curve for curve in finding.curves if curve.label.startswith(space))
        assert curve.y == pytest.approx(means.tolist())
        assert means[2] - means[0] > 0.2
    assert finding.number == pytest.approx(finding.curves[0].y[-1] - finding.curves[0].y[0])
    # Three samples are too few to be sure of it, and the study names that.
    assert finding.holds == (finding.interval[0] > 0) == ("do not part" not in finding.sentence)


def test_transport(faces) -> None:
    finding = STUDIES["transport"].run(faces, SETTINGS)
    assert -1 <= finding.number < -0.7
    table = finding.table
    assert len(table["way"]) == 3 * 6 * SETTINGS.k * len(WAYS)
    mean = {
        way: sum(c for c, w in zip(table["cosine"], table["way"], strict=True) if w == way) / (18 * SETTINGS.k)
        for way in WAYS
    }
    assert 0.3 < mean["park2023"] < 0.8
    assert abs(mean["pseudoinverse"] - mean["park2023"]) < 0.02
    assert abs(mean["random"]) < 0.2 < mean["own"] < mean["park2023"]
    assert f"{finding.number:.2f}" in finding.sentence
