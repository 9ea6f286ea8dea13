"""Drawn avatars: the same numbers give the same picture, and each number changes what its name says."""

from __future__ import annotations

import pytest
import torch
from avatars import BY_NAME, FACTORS, HAIR_STYLES, draw, sample_factors

CONTINUOUS = [factor.name for factor in FACTORS if factor.kind == "continuous"]
# First and last rows and columns of 64 that a factor may change on a head that looks straight ahead.
REGIONS = {
    "background": (0, 63, 0, 63),
    "shirt": (54, 63, 8, 55),
    "skin": (8, 63, 8, 55),
    "face": (24, 60, 12, 51),
    "hair_style": (0, 63, 0, 63),
    "hair_color": (0, 63, 0, 63),
    "beard": (26, 55, 12, 51),
    "brows": (22, 30, 18, 45),
    "eye_size": (26, 39, 17, 46),
    "eye_open": (26, 39, 17, 46),
    "eye_color": (28, 38, 19, 44),
    "glasses": (26, 41, 12, 51),
    "mouth_curve": (37, 53, 24, 39),
    "mouth_open": (37, 53, 24, 39),
}
EVERYTHING = ("turn", "tilt")


def seeded(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    factors = sample_factors(torch.Generator().manual_seed(seed), n)
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in factors.items()}


def upright(n: int) -> dict[str, torch.Tensor]:
    """Avatars in every cut of hair that look straight ahead."""
    still = {"turn": torch.zeros(n), "tilt": torch.zeros(n), "hair_style": torch.arange(n) % len(HAIR_STYLES)}
    return seeded(n) | still


def both_ends(factors: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with one factor at its lowest and at its highest."""
    factor = BY_NAME[name]
    low, high = (draw(factors | {name: torch.full_like(factors[name], end)}) for end in (factor.low, factor.high))
    return low, high


def test_the_same_numbers_give_the_same_picture() -> None:
    factors = seeded(12)
    pictures = draw(factors)
    assert pictures.shape == (12, 3, 64, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert torch.equal(pictures, draw(seeded(12)))
    for i in (0, 7):
        alone = draw({name: values[i : i + 1] for name, values in factors.items()})
        assert torch.allclose(alone[0], pictures[i], atol=1e-6)


def test_factors_cover_their_ranges_independently() -> None:
    factors = seeded(4000)
    for factor in FACTORS:
        values = factors[factor.name].double()
        expected = (factor.low + factor.high) / 2 if factor.probability is None else factor.probability
        assert abs(values.mean() - expected) < 0.05 * (factor.high - factor.low)
        assert (values.min() - factor.low) < 0.01
        assert (factor.high - values.max()) < 0.01
    correlation = torch.corrcoef(torch.stack([v.double() for v in factors.values()]))
    assert (correlation - torch.eye(len(FACTORS))).abs().max() < 0.08


@pytest.mark.parametrize("name", REGIONS)
def test_a_factor_changes_its_region_and_nothing_else(name: str) -> None:
    low, high = both_ends(upright(16), name)
    changed = (low - high).abs().amax(1) > 1 / 512
    assert (changed.sum((1, 2)) >= 20).all()
    top, bottom, left, right = REGIONS[name]
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[top : bottom + 1, left : right + 1] = False
    assert not (changed & outside).any()


@pytest.mark.parametrize("name", EVERYTHING)
def test_moving_the_head_leaves_the_corners_alone(name: str) -> None:
    low, high = both_ends(upright(16), name)
    changed = (low - high).abs().amax(1) > 1 / 512
    assert (changed.sum((1, 2)) > 500).all()
    assert not changed[:, :8, :8].any()
    assert not changed[:, :8, -8:].any()


def test_every_factor_has_a_region() -> None:
    assert {*REGIONS, *EVERYTHING} == set(BY_NAME)


def test_cuts_of_hair_differ() -> None:
    one = {name: values[:1].expand(len(HAIR_STYLES)) for name, values in seeded(1).items()}
    pictures = draw(one | {"hair_style": torch.arange(len(HAIR_STYLES))}).flatten(1)
    assert torch.cdist(pictures, pictures).fill_diagonal_(9.0).min() > 3


@pytest.mark.parametrize("name", CONTINUOUS)
def test_pictures_have_a_derivative_in_every_continuous_factor(name: str) -> None:
    factors = seeded(4, dtype=torch.float64)
    middle = factors[name] * 0.9 + 0.003

    def picture(values: torch.Tensor) -> torch.Tensor:
        return draw(factors | {name: values})

    step = 1e-7
    _, tangent = torch.func.jvp(picture, (middle,), (torch.ones_like(middle),))
    difference = (picture(middle + step) - picture(middle - step)) / (2 * step)
    assert tangent.isfinite().all()
    assert (tangent.flatten(1).norm(dim=1) > 0.1).all()
    # A pixel at the kink of an edge may differ: hence norms.
    assert (tangent - difference).norm() < 1e-3 * tangent.norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skin": torch.tensor([1.5, 0.0])}, r"draw: factors\['skin'\] must be in \[0, 1\], got 1.5"),
        ({"turn": torch.tensor([0.0, float("nan")])}, r"draw: factors\['turn'\] must be in \[-1, 1\], got nan"),
        ({"glasses": torch.tensor([0.5, 0.0])}, r"draw: factors\['glasses'\] must be a whole number in \[0, 1\]"),
        ({"hair_style": torch.tensor([0, 99])}, r"draw: factors\['hair_style'\] must be a whole number in \[0, 7\]"),
        ({"beard": torch.zeros(3)}, r"draw: factors\['beard'\] must have the shape \[2\] of all factors, got \[3\]"),
        ({"hat": torch.zeros(2)}, r"draw: factors must have the keys .* got a missing or unknown 'hat'"),
    ],
)
def test_factors_out_of_range_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(seeded(2) | change)


def test_other_arguments_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(TypeError, match=r"draw: factors\['skin'\] must be a tensor, got float"):
        draw(seeded(2) | {"skin": 0.5})
    with pytest.raises(TypeError, match="draw: factors must be a mapping"):
        draw([1.0])
    with pytest.raises(ValueError, match="draw: size must be at least 16, got 8"):
        draw(seeded(1), size=8)
    with pytest.raises(ValueError, match="sample_factors: n must be at least 1, got 0"):
        sample_factors(generator, 0)
    with pytest.raises(TypeError, match=r"sample_factors: generator must be a torch.Generator, got int"):
        sample_factors(0, 4)
