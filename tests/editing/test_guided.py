"""Every method of an edit, and every layer of a basis, under prompts and guidance, against the same done by hand.

By hand: the network is called twice, under the prompt and under the negative prompt, and both predictions are mixed;
loops and injections are written down from the formulas.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from networks import rand, randomize
from park2023_loop import Park2023
from pipelines import SHALLOW, build_stable_diffusion
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import DDIM, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Method, Reestimation, masked_basis
from latentjac.geometry.linearity import LENGTHS
from latentjac.papers import park2023

STEPS = 5
DISTANCES = (-1.0, 2.0)
MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[2:6, 3:7] = True


class ByHand:
    """Guided noise of a network, and DDIM, from the network, its embeddings and the schedule alone."""

    def __init__(self, model: latentjac.Model, prompt: str | None, scale: float | None) -> None:
        self.network, self.scale = model.network, scale
        self.text, self.away = (model.text.encode([text]) for text in (prompt or "", "dog"))
        self.powers = model.scheduler.alphas_cumprod.double()

    def one(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
        add = (lambda module, inputs, output: output) if offset is None else (lambda m, i, output: output + offset)
        handle = self.network.mid_block.register_forward_hook(add)
        out = self.network(x, t, text.expand(len(x), -1, -1)).sample
        handle.remove()
        return out

    def eps(self, x: torch.Tensor, t: float | torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
        t = torch.as_tensor(t)
        own = self.one(x, t, self.text, offset)
        return own if self.scale is None else self.scale * own + (1 - self.scale) * self.one(x, t, self.away, offset)

    def x0(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = self.powers[int(t)]
        return (x - (1 - a).sqrt() * self.eps(x, t)) / a.sqrt()

    def down(self, x: torch.Tensor, point: latentjac.Point, shift=None, along_plain: bool = False) -> torch.Tensor:
        """To the image; ``shift`` gives what is added to the features at a level, or None."""
        for level in range(point.level, 0, -1):
            t, below = point.schedule.timesteps[level], point.schedule.timesteps[level - 1]
            a = self.powers[t]
            b = torch.tensor(self.final) if level == 1 else self.powers[below]
            offset = None if shift is None else shift(level)
            shifted = self.eps(x, t, offset)
            along = self.eps(x, t) if along_plain else shifted
            x = b.sqrt() * (x - (1 - a).sqrt() * shifted) / a.sqrt() + (1 - b).sqrt() * along
        return x

    final = 0.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> latentjac.Model:
    """A small Stable Diffusion in float64, of one resolution, with weights so large that texts matter."""
    pipeline = build_stable_diffusion(tmp_path_factory.mktemp("tokenizer"), **SHALLOW)
    randomize(pipeline.unet)
    pipeline.text_encoder.double()
    pipeline.vae.double()
    return latentjac.load(pipeline)


Case = tuple[latentjac.Model, latentjac.Point, ByHand]


@pytest.fixture(scope="module", params=[None, 2.0], ids=["plain", "guided"])
def scale(request: pytest.FixtureRequest) -> float | None:
    return request.param


@pytest.fixture(scope="module", params=[None, "a cat"], ids=["no prompt", "prompt"])
def case(model, scale: float | None, request: pytest.FixtureRequest) -> Case:
    return made(model, scale, request.param)


@pytest.fixture(scope="module")
def prompted(model, scale: float | None) -> Case:
    """For what takes long: no prompt is another text for a network, of which conditionings and samples tell."""
    return made(model, scale, "a cat")


def made(model: latentjac.Model, scale: float | None, prompt: str | None) -> Case:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    path = latentjac.invert(model, picture, STEPS, grid=Own(), solver=DDIM())
    point = path.at(0.6).with_prompt(model, prompt, "dog", 1.0 if scale is None else scale)
    hand = ByHand(model, prompt, scale)
    hand.final = float(model.scheduler.final_alpha_cumprod)
    return model, point, hand


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_conditioning_says_what_is_done(case, scale) -> None:
    _, point, hand = case
    close(point.conditioning["text"], hand.text)
    assert (point.conditioning.guidance is None) == (scale is None)
    if scale is not None:
        close(point.conditioning.guidance.negative["text"], hand.away)
        assert point.conditioning.guidance.scale.tolist() == [scale]


def test_sampling(case) -> None:
    model, point, hand = case
    close(latentjac.sample(model, point, output_type="latent"), hand.down(point.sample, point))


@pytest.mark.parametrize("layer", ["mid", "x0", "eps"])
def test_bases_are_those_of_dense_jacobians(prompted, layer: str) -> None:
    model, point, hand = prompted
    t = torch.tensor(point.timestep)

    def mid(x: torch.Tensor) -> torch.Tensor:  # features are those under the prompt
        found: list[torch.Tensor] = []
        handle = model.network.mid_block.register_forward_hook(lambda module, inputs, output: found.append(output))
        model.network(x, t, hand.text)
        handle.remove()
        return found[0]

    f = mid if layer == "mid" else lambda x: getattr(hand, layer)(x, t)
    _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
    basis = latentjac.local_basis(model, point, 3, layer, tol=1e-7)
    close(basis.s, s[:3])
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-6


def test_a_masked_basis(prompted) -> None:
    model, point, hand = prompted
    t = torch.tensor(point.timestep)
    dense = dense_jacobian(lambda x: hand.x0(x, t)[:, :, MASK], point.sample)
    close(masked_basis(model, point, MASK, 2, tol=1e-7).s, torch.linalg.svdvals(dense)[:2])


def test_linear(case) -> None:
    model, point, hand = case
    v = rand(4, 8, 8, seed=4)
    result = latentjac.edit(model, point, v, DISTANCES, method=Linear())
    sigma = (1 - hand.powers[point.timestep]).sqrt()
    for i, distance in enumerate(DISTANCES):
        x = point.sample + distance * sigma * v / v.norm()
        close(result.points[0, i], x[0])
        close(result.samples[0, i], hand.down(x, point)[0])


def test_guidance(case) -> None:
    model, point, hand = case
    v = rand(4, 8, 8, seed=4)
    v = v / v.norm()
    result = latentjac.edit(model, point, v, DISTANCES, method=Guidance(num_steps=2))
    sigma = float((1 - hand.powers[point.timestep]).sqrt())
    assert result.num_steps == 2
    probe = max(length for length in LENGTHS if length <= min(1.0, result.linearity[0].radius)) * sigma
    for i, distance in enumerate(DISTANCES):

        def unit(x: torch.Tensor, way: float = probe * (1 if distance > 0 else -1)) -> torch.Tensor:
            change = hand.eps(x + way * v, point.timestep) - hand.eps(x, point.timestep)
            return change / change.norm()

        length = abs(distance) * sigma / 2
        first = unit(point.sample)
        second = unit(point.sample + length * first)
        both, ahead = first + second, 3 * second - first
        x = point.sample + length * both / both.norm() + length * ahead / ahead.norm()
        close(result.points[0, i], x[0])
        close(result.samples[0, i], hand.down(x, point)[0])
        seen = (point.sample, point.sample + length * first, x)
        here, there, end = (model.feature_map("mid")(y, torch.tensor(point.timestep), point.conditioning) for y in seen)
        expected = float((there - here).norm() + (end - there).norm())
        assert float(result.along.feature_path[0, i]) == pytest.approx(expected, rel=1e-6)
    quotients = [
        [
            (hand.eps(point.sample + side * length * sigma * v, point.timestep) - here).norm() / length
            for side in (1, -1)
        ]
        for here in [hand.eps(point.sample, point.timestep)]
        for length in LENGTHS
    ]
    ratios = [[float(q / first) for q, first in zip(both, quotients[0], strict=True)] for both in quotients]
    worst = [max(both, key=lambda ratio: abs(ratio - 1)) for both in ratios]
    assert result.linearity[0].norm_ratio == pytest.approx(worst, rel=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        Geodesic(num_steps=2, layer="eps", k=3, tol=1e-3),
        Guidance(num_steps=2, layer="eps", reestimate=Reestimation(1, k=3, tol=1e-3)),
        Guidance(num_steps=2),
    ],
    ids=["geodesic", "reestimated", "masked"],
)
def test_bases_on_the_way(prompted, method: Method) -> None:
    """Walks that look bases up are as long as asked for, and a null space is that of the guided prediction."""
    model, point, hand = prompted
    mask = Mask(MASK, null_rank=2, tol=1e-7) if method == Guidance(num_steps=2) else None
    v = latentjac.local_basis(model, point, 3, "eps", tol=1e-3).v[0]
    result = latentjac.edit(model, point, v, DISTANCES, method=method, mask=mask)
    for i, distance in enumerate(DISTANCES):
        close(result.samples[0, i], hand.down(result.points[:, i], point)[0])
        assert float(result.along.path[0, i]) == pytest.approx(abs(distance), rel=1e-6)
    if mask is not None:
        dense = dense_jacobian(lambda x: hand.x0(x, torch.tensor(point.timestep))[:, :, ~MASK], point.sample)
        heard = torch.linalg.svd(dense, full_matrices=False)[2][:2]
        moved = (result.points[0] - point.sample).flatten(1)
        assert (heard @ moved.T).norm() < 1e-5 * moved.norm()


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("inject", ["below", "point"])
def test_h_space(prompted, inject: str, asymmetric: bool) -> None:
    """The offset is added to the rows under the prompt and to those under the negative prompt alike."""
    model, point, hand = prompted
    h = model.feature_map("mid")(point.sample, torch.tensor(point.timestep), point.conditioning)
    u = rand(2, *h.shape[1:], seed=5)
    result = latentjac.edit(model, point, u, DISTANCES, method=HSpace(inject=inject, asymmetric=asymmetric))
    for i in range(2):
        for j, distance in enumerate(DISTANCES):
            offset = distance * h.std() * u[i] / u[i].norm()
            shift = lambda level, o=offset: o if inject == "below" or level == point.level else None  # noqa: E731
            close(result.samples[i, j], hand.down(point.sample, point, shift, asymmetric)[0])
    unit, v = float(h.std()), u[0] / u[0].norm()
    plain = hand.eps(point.sample, point.timestep)
    changes = [hand.eps(point.sample, point.timestep, sign * unit * d * v) - plain for d in LENGTHS for sign in (1, -1)]
    slopes = [float(c.norm()) / d for c, d in zip(changes, [d for d in LENGTHS for _ in range(2)], strict=True)]
    worst = max((slopes[-2] / slopes[0], slopes[-1] / slopes[1]), key=lambda ratio: abs(ratio - 1))
    assert result.linearity[0].norm_ratio[-1] == pytest.approx(worst, rel=1e-6)


def test_frames_of_an_injection(prompted) -> None:
    model, point, _ = prompted
    u = rand(1, 8, 8, 8, seed=5)
    result = latentjac.edit(model, point, u, DISTANCES, method=HSpace())
    frames = latentjac.editing.walk_frames(model, point, result, count=4)
    assert frames.distances == pytest.approx((-1.0, 0.0, 1.0, 2.0))
    for frame, image in zip((frames.images[0], frames.images[-1]), result.images, strict=True):
        assert max(abs(a - b) for a, b in zip(frame.tobytes(), image.tobytes(), strict=True)) <= 1


def test_the_walk_of_park2023(model, scale) -> None:
    """Its walks and its way to the picture, as tests/park2023_loop.py has them, over a guided network."""
    hand = ByHand(model, "a cat", scale)
    known = Park2023(lambda x, t: SimpleNamespace(sample=hand.eps(x, t)), hand.powers, 8)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    path = park2023.invert(model, picture, 8, "a cat", negative_prompt="dog", guidance_scale=scale or 1.0)
    clean = model.codec.encode(picture).double()
    close(path.samples[-1], known.invert(clean))
    point, v = path.at(0.6), rand(4, 8, 8, seed=4)
    result = latentjac.edit(model, point, v, method=park2023.Walk(num_steps=4))
    forth = known.walk(point.sample, torch.tensor(point.timestep), v / v.norm(), 1.0, 4)
    close(result.points[0, result.distances.index(0) :], torch.cat(forth))
    x = forth[-1]
    for level in range(point.level, 0, -1):
        x = known.move(x, hand.eps(x, known.times[level]), known.times[level], known.times[level - 1])
    close(result.samples[0, -1], x[0])


def test_the_prompt_of_a_walk_is_that_of_the_walk_alone(case) -> None:
    model, point, hand = case
    v = rand(4, 8, 8, seed=4)
    result = latentjac.edit(model, point, v, 1.0, method=Guidance(num_steps=1, prompt="sky"))
    walked = latentjac.edit(model, point.with_prompt(model, "sky"), v, 1.0, method=Guidance(num_steps=1))
    close(result.points, walked.points)
    close(result.samples[0], hand.down(result.points[0], point))
