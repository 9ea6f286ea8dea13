"""What all studies share: settings, points, curves and findings."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
import torch

import latentjac
from latentjac.geometry import subspace_distance
from latentjac.studies import STUDIES, Axes, Curve, Finding, Settings
from latentjac.studies.curves import ends_of, mean_curve, mean_ratio
from latentjac.studies.points import bases_at, followed_points, one_sample

SETTINGS = Settings(samples=5, levels=(0.2, 0.9, 0.6), k=2, tol=1e-6, seed=3, steps=10)


def test_levels_go_from_noise_to_image() -> None:
    assert SETTINGS.levels == (0.9, 0.6, 0.2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": 1}, ValueError, "samples must be at least 2, got 1"),
        ({"samples": 2.0}, TypeError, "samples must be an int, got float"),
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"tol": 1}, ValueError, r"tol must be a number in \(0, 1\), got 1"),
        ({"levels": 0.5}, TypeError, "levels must be a non-empty sequence of fractions of T, got float"),
        ({"levels": (0.5,)}, ValueError, r"at least 2 different ones, each once, got \[0.5\]"),
        ({"levels": (0.5, 0.2, 0.5)}, ValueError, "each once"),
        ({"levels": (0.5, 60)}, ValueError, r"levels must be a number in \[0, 1\], got 60"),
        ({"levels": (0.5, float("nan"))}, ValueError, "got nan"),
        ({"prompts": "a cat"}, TypeError, "prompts must be a non-empty sequence of texts, got str"),
        ({"prompts": ("a cat", "a dog", 5)}, TypeError, "prompts must be a str, got int"),
        ({"prompts": ("a cat", "a dog")}, ValueError, r"3 different texts, each once, got \['a cat', 'a dog'\]"),
        ({"prompts": ("a", "b", "c", "a")}, ValueError, "3 different texts, each once"),
    ],
)
def test_settings_are_checked(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(SETTINGS, **change)


def test_points_are_those_that_sampling_passes(tiny_model) -> None:
    points = followed_points(tiny_model, SETTINGS)
    assert [point.timestep for point in points] == [899, 599, 199]
    assert all(len(point.sample) == SETTINGS.samples for point in points)
    ends = [latentjac.sample(tiny_model, point, output_type="latent") for point in points]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=1e-9)
    assert (ends[0][0] - ends[0][1]).abs().max() > 0.1  # samples differ
    again = followed_points(tiny_model, SETTINGS)
    assert torch.equal(again[-1].sample, points[-1].sample)
    other = followed_points(tiny_model, replace(SETTINGS, seed=4))
    assert not torch.equal(other[-1].sample, points[-1].sample)


def test_levels_must_be_apart_on_the_grid(tiny_model) -> None:
    with pytest.raises(
        ValueError, match=r"apart on the grid of 10 steps, got \[0.62, 0.6\], .* timesteps \[599, 599\]"
    ):
        followed_points(tiny_model, replace(SETTINGS, levels=(0.6, 0.62)))


def test_bases_of_many_samples_are_those_of_each(tiny_model) -> None:
    """Five samples do not fill two batches of four."""
    point = followed_points(tiny_model, SETTINGS)[1]
    bases = bases_at(tiny_model, point, SETTINGS)
    assert len(bases) == 5
    for i in (0, 4):
        alone = latentjac.local_basis(tiny_model, one_sample(point, i), SETTINGS.k, tol=1e-6)
        torch.testing.assert_close(bases[i].s, alone.s, rtol=1e-6, atol=0)
        assert float(subspace_distance(bases[i], alone, "x").gap) < 1e-3


def test_a_ratio_of_means_is_paired() -> None:
    b = torch.tensor([1.0, 5.0, 30.0, 200.0])
    number, interval = ends_of(mean_ratio(3 * b, b))
    assert number == pytest.approx(3)
    assert interval == pytest.approx((3, 3))
    number, interval = ends_of(mean_ratio(torch.tensor([2.0, 8.0]), torch.tensor([1.0, 1.0])))
    # Logarithms 1 and 3 (base 2): mean 2, Student's quantile of one degree of freedom times a standard error of 1.
    assert number == pytest.approx(4)
    assert interval == pytest.approx((2 ** (2 - 12.7062), 2 ** (2 + 12.7062)), rel=1e-4)


def test_the_summary_is_that_of_the_curves() -> None:
    values = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    axes = Axes("t", "height (m)", "a title")
    line = mean_curve("line", axes, [0.9, 0.1], values)
    points = Curve("points", axes, (1.0,), (2.0,))
    finding = Finding("name", {"a": [1, 2]}, (line, points), "It holds.", 1.0, (0.5, 1.5), True)
    summary = finding.summary
    assert summary["curve"] == ["line", "line"]
    assert summary["quantity"] == ["height (m)"] * 2
    assert summary["x"] == [0.9, 0.1]
    assert summary["mean"] == [2.0, 4.0]
    assert summary["low"] == pytest.approx([2 - 12.7062, 4.0], rel=1e-4)
    assert summary["high"] == pytest.approx([2 + 12.7062, 4.0], rel=1e-4)


def test_a_finding_is_whole() -> None:
    with pytest.raises(ValueError, match=r"columns of equal length, got \{'a': 1, 'b': 2\}"):
        Finding("name", {"a": [1], "b": [1, 2]}, (), "", 1.0, (0.0, 2.0), True)
    with pytest.raises(ValueError, match=r"interval must hold the number 3.0, got \[0.0, 2.0\]"):
        Finding("name", {"a": [1]}, (), "", 3.0, (0.0, 2.0), True)


def test_every_study_asks_a_question() -> None:
    for name, study in STUDIES.items():
        assert study.name == name
        assert study.question.endswith("?")
        assert "\n" not in study.question


def test_a_study_is_in_the_module_of_its_name() -> None:
    for name in STUDIES:
        assert import_module(f"latentjac.studies.{name.replace('-', '_')}").NAME == name
