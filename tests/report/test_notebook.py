"""Results as notebooks show them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from networks import rand
from report.parsed import Page

import latentjac
from latentjac.editing import Linear
from latentjac.report.notebook import html_of
from latentjac.solvers import LocalBasis, Status


@pytest.fixture
def basis() -> LocalBasis:
    s, v = torch.tensor([4.0, 2.0, 1.0]), rand(3, 3, 16, 16)
    return LocalBasis(s, v, v, torch.tensor([1e-5, 2e-3, 1e-4]), Status.CONVERGED, 7, 6, 0.5, {"layer": "<mid>"})


def test_a_basis_shows_spectrum_directions_and_residuals(basis: LocalBasis) -> None:
    html = basis._repr_html_()
    assert html is not None
    page = Page(html)
    assert page.tags.count("rect") == page.tags.count("img") == 3
    heights = [float(height) for height in re.findall('height="([0-9.]+)" fill', html)]
    assert heights == pytest.approx([110, 55, 27.5])
    for text in ("converged", "layer <mid>", "7 JVPs + 6 VJPs", "2: s = 2, residual 2.0e-03", "residual 2.0e-03"):
        assert text in page.text
    assert "<mid>" not in html


def test_a_basis_of_several_points_shows_the_first_and_one_of_vectors_no_pictures(basis: LocalBasis) -> None:
    twice = {name: torch.stack([getattr(basis, name)] * 2) for name in ("s", "v", "u", "residuals")}
    several = replace(basis, **twice, point_status=(Status.CONVERGED, Status.CONVERGED))
    assert "the first of 2 points" in Page(several._repr_html_()).text
    flat = rand(3, 20)
    page = Page(replace(basis, v=flat, u=flat)._repr_html_())
    assert "img" not in page.tags
    assert "3: s = 1, residual 1.0e-04" in page.text


def test_an_edit_shows_sliders(tiny_model: latentjac.Model, tiny_point: latentjac.Point) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, rand(2, 3, 16, 16), [-2.0, 0.0, 2.0], method=Linear())
    html = edit._repr_html_()
    page = Page(html)
    assert page.tags.count("input") == 2
    assert page.sources[0].startswith("data:image/webp")
    assert len(page.sources) == 2 * 13 + 1
    assert html.count("<script>") == 1
    assert "Linear, " in page.text


def test_an_edit_of_one_distance_shows_its_pictures(tiny_model: latentjac.Model, tiny_point: latentjac.Point) -> None:
    page = Page(latentjac.edit(tiny_model, tiny_point, rand(2, 3, 16, 16), 1.5, method=Linear())._repr_html_())
    assert page.tags.count("img") == 2
    assert "direction 2, distance +1.5" in page.text
    assert "script" not in page.tags


@pytest.mark.filterwarnings("ignore:invert")
def test_a_trajectory_shows_the_way_to_noise_and_what_comes_back(tiny_model: latentjac.Model) -> None:
    path = latentjac.invert(tiny_model, torch.rand(2, 3, 16, 16), 4)
    page = Page(path._repr_html_())
    assert page.tags.count("img") == path.schedule.top + 1 + 1
    for text in (f"round trip {path.psnr[0]:.1f} dB", "t = 0.00", "reconstruction", "the first of 2 pictures"):
        assert text in page.text


@pytest.mark.filterwarnings("ignore:invert")
def test_samples_that_are_no_pictures_are_told_in_words(tiny_model: latentjac.Model) -> None:
    path = latentjac.invert(tiny_model, torch.rand(1, 3, 16, 16), 2)
    sound = replace(path, samples=path.samples.flatten(3), reconstruction=path.reconstruction.flatten(2))
    page = Page(sound._repr_html_())
    assert "img" not in page.tags
    assert "round trip" in page.text


def test_nothing_else_is_drawn() -> None:
    assert html_of(3) is None
