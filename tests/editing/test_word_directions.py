"""Directions from words, pairs and labels, against autograd and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from editing.known import pixelwise, point_for
from networks import rand, randomize
from pipelines import build_stable_diffusion

import latentjac
from latentjac import Point, Slider
from latentjac.editing import FromWords, Linear, Mask, label_direction, null_space, pair_direction, word_direction

INSIDE = torch.zeros(8, 8, dtype=torch.bool)
INSIDE[2:6, 3:7] = True


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> latentjac.Model:
    pipeline = build_stable_diffusion(tmp_path_factory.mktemp("tokenizer"))
    randomize(pipeline.unet)
    return latentjac.load(pipeline, dtype=torch.float64)


@pytest.fixture(scope="module")
def point(model: latentjac.Model) -> Point:
    made = latentjac.noise_point(model, num_inference_steps=5, generator=torch.Generator().manual_seed(1))
    return replace(made, sample=rand(1, *model.sample_shape), level=3)


def predicted(model: latentjac.Model, point: Point, prompt: str):
    """The posterior mean under a prompt as a function of samples, from the network alone."""
    at = point.with_prompt(model, prompt)
    t = torch.tensor(point.timestep)

    def x0(x: torch.Tensor) -> torch.Tensor:
        eps = model.network(x, t, at.conditioning["text"].expand(len(x), -1, -1)).sample
        return (x - point.noise * eps) / point.signal

    return x0


def same_direction(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b / b.norm(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mask", [None, Mask(INSIDE, null_rank=0)], ids=["whole", "masked"])
def test_words_are_pulled_back_by_the_transposed_jacobian(model, point, mask) -> None:
    there, here = (predicted(model, point, prompt) for prompt in ("a cat", "a dog"))
    factor = torch.ones(1, 1, 8, 8) if mask is None else INSIDE[None, None].double()
    difference = factor * (there(point.sample) - here(point.sample)).detach()
    same_direction(word_direction(model, point, "a cat", "a dog", kind="difference", mask=mask), difference[0])
    x = point.sample.clone().requires_grad_()
    (expected,) = torch.autograd.grad((there(x) * difference).sum(), x)
    same_direction(word_direction(model, point, "a cat", "a dog", mask=mask), expected[0])


def test_away_is_what_the_point_is_under(model, point) -> None:
    under = point.with_prompt(model, "a dog")
    torch.testing.assert_close(word_direction(model, under, "a cat"), word_direction(model, point, "a cat", "a dog"))
    with pytest.raises(ValueError, match="prompt must predict another picture than away, got the same of 'a dog'"):
        word_direction(model, under, "a dog")


def test_what_the_rest_listens_to_is_taken_out(model, point) -> None:
    v = word_direction(model, point, "a cat", mask=Mask(INSIDE, null_rank=3, tol=1e-4))
    outside = null_space(model, point.with_prompt(model, "a cat"), INSIDE, 3, tol=1e-4).v
    assert float(v.norm()) == pytest.approx(1)
    assert float((outside.flatten(1) @ v.flatten()).abs().max()) < 1e-6
    left = word_direction(model, point, "a cat", mask=Mask(INSIDE, null_rank=0))
    assert float((outside.flatten(1) @ left.flatten()).abs().max()) > 1e-3


def test_a_slider_finds_its_words_anew(model, point) -> None:
    v = word_direction(model, point, "a cat")
    method = Linear(diagnostics=False)
    slider = Slider.make(model, point, v, change=0.01, method=method, carry=FromWords("a cat"), tolerance=0.1)
    assert slider.linear is None
    other = replace(point, sample=rand(1, *model.sample_shape, seed=5))
    applied = slider.apply(model, other, 1.0, calibrate=False)
    torch.testing.assert_close(applied.edit.directions[0], word_direction(model, other, "a cat"))


def point_of(*samples: torch.Tensor) -> Point:
    return replace(point_for(pixelwise()), sample=torch.stack(samples))


def test_pairs_give_their_mean_or_what_they_share_most() -> None:
    before = [rand(3, 8, 8, seed=i) for i in range(3)]
    v, w = rand(3, 8, 8, seed=11), rand(3, 8, 8, seed=12)
    same_direction(pair_direction(point_of(before[0]), point_of(before[0] + v)), v)
    after = point_of(*[x + d for x, d in zip(before, (v, 2 * v, w), strict=True)])
    same_direction(pair_direction(point_of(*before), after), (3 * v + w) / 3)
    rows = torch.stack([v, 2 * v, w]).flatten(1)
    top = torch.linalg.eigh(rows.mT @ rows).eigenvectors[:, -1]
    singular = pair_direction(point_of(*before), after, kind="singular").flatten()
    assert float(singular @ top).__abs__() == pytest.approx(1)
    assert float(singular @ rows.mean(0)) > 0
    masked = pair_direction(point_of(before[0]), point_of(before[0] + v), mask=INSIDE)
    same_direction(masked, v * INSIDE)


def test_labels_are_fitted_by_ridge_regression() -> None:
    """Against the normal equations in the space of the values."""
    samples = [rand(3, 8, 8, seed=i) for i in range(6)]
    labels = [0.0, 1.0, 1.0, 0.0, 2.0, -1.0]
    x = torch.stack(samples).flatten(1)
    x, y = x - x.mean(0), torch.tensor(labels).double() - 0.5
    ridge = 0.3 * float((x @ x.mT).diagonal().mean())
    expected = torch.linalg.solve(x.mT @ x + ridge * torch.eye(192).double(), x.mT @ y).view(3, 8, 8)
    same_direction(label_direction(point_of(*samples), labels, ridge=0.3), expected)


def test_a_label_that_the_samples_hold_is_found() -> None:
    v = rand(3, 8, 8, seed=20)
    v = v / v.norm()
    labels = torch.tensor([-3.0, -1.0, 1.0, 3.0] * 4)
    samples = [0.1 * rand(3, 8, 8, seed=i) + float(label) * v for i, label in enumerate(labels)]
    assert float((label_direction(point_of(*samples), labels) * v).sum()) > 0.95


POINTS = point_of(rand(3, 8, 8, seed=1), rand(3, 8, 8, seed=2))
REFUSED = {
    "after must have samples": lambda: pair_direction(POINTS, POINTS.rows(slice(0, 1))),
    "after must be at timestep": lambda: pair_direction(POINTS, replace(POINTS, level=2)),
    "after must differ from before, got the same": lambda: pair_direction(POINTS, POINTS),
    "on average, got differences that cancel": lambda: pair_direction(
        POINTS, replace(POINTS, sample=POINTS.sample.flip(0))
    ),
    "before must be a latentjac.Point": lambda: pair_direction(POINTS.sample, POINTS),
    r"mask must be bool \[8, 8\]": lambda: pair_direction(POINTS, POINTS, mask=torch.arange(4).view(2, 2) > 1),
    r"labels must be numbers \[2\]": lambda: label_direction(POINTS, [1.0]),
    "labels must be a non-empty sequence of numbers": lambda: label_direction(POINTS, "01"),
    "labels must differ": lambda: label_direction(POINTS, [1, 1]),
    "points must differ": lambda: label_direction(point_of(*POINTS.sample[[0, 0]]), [0, 1]),
    "ridge must be a number": lambda: label_direction(POINTS, [0, 1], ridge=0.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_input_is_refused(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message]()
