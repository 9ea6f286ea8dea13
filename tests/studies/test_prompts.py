"""The influence of text fades where that is planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks import rand, randomize
from pipelines import SHALLOW, build_stable_diffusion

import latentjac
from latentjac.geometry import sample_mean, subspace_distance
from latentjac.studies import STUDIES, Finding, Settings
from latentjac.studies.points import followed_points, one_sample
from latentjac.studies.prompts import PromptDistances, finding_of
from latentjac.studies.tangent_spaces import BySpace

PROMPTS = ("a cat", "a dog", "sky")
TINY = Settings(samples=3, levels=(0.9, 0.2), k=2, tol=1e-5, steps=10, prompts=PROMPTS)
EXACT = replace(TINY, tol=1e-6)
Strength = Callable[[torch.Tensor], torch.Tensor]


class Features(torch.nn.Module):
    """``A x + strength(t) g(text) sin(B x + w t)``: text turns the Jacobian as far as the strength says.

    Phases are so large that no level and no sample is different from others in the mean.
    """

    def __init__(self, strength: Strength) -> None:
        super().__init__()
        self.strength = strength
        self.a, self.b, self.g, self.w = (
            torch.nn.Parameter(spread * rand(24, size, seed=seed))
            for seed, (size, spread) in enumerate(((256, 1 / 16), (256, 1 / 4), (192, 1 / 8), (1, 100.0)))
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        gates = torch.tanh(text.flatten(1) @ self.g.T)
        waves = torch.sin(flat @ self.b.T + t * self.w.T)
        return flat @ self.a.T + self.strength(t) * gates * waves


class Planted(torch.nn.Module):
    """A denoiser of white noise that looks at those features."""

    def __init__(self, strength: Strength) -> None:
        super().__init__()
        self.config = {"sample_size": 8, "in_channels": 4}
        self.mid_block = Features(strength)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, return_dict: bool = False
    ) -> tuple[torch.Tensor]:
        self.mid_block(x, t / 1000, text)
        return (t / 1000 * x,)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> latentjac.Model:
    """A small Stable Diffusion in float64, with weights so large that texts matter."""
    pipeline = build_stable_diffusion(tmp_path_factory.mktemp("tokenizer"), **SHALLOW)
    randomize(pipeline.unet)
    return latentjac.load(pipeline, dtype=torch.float64)


@pytest.fixture(scope="module")
def finding(model: latentjac.Model) -> Finding:
    return STUDIES["prompts"].run(model, EXACT)


def planted(model: latentjac.Model, strength: Strength) -> latentjac.Model:
    """It reads text as the other model does."""
    return latentjac.Model(
        Planted(strength), model.scheduler, call=model.call, codec=model.codec, text=model.text, name="planted"
    )


def test_rows_are_what_single_pairs_give(model, finding) -> None:
    table, points = finding.table, followed_points(model, EXACT)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    assert len(rows) == 2 * (3 * 3 + 3)  # levels; samples and pairs of prompts, pairs of samples
    assert max(row["distance_x"] for row in rows) > 0.02
    for row in (rows[0], rows[8], rows[10], rows[13], rows[-1]):
        point = next(point for point in points if point.t == row["t"])
        one, other = (
            latentjac.local_basis(model, one_sample(point, row[i]).with_prompt(model, row[text]), k=2, tol=1e-6)
            for i, text in (("sample", "prompt"), ("other_sample", "other_prompt"))
        )
        for space in ("x", "h"):
            distance = subspace_distance(one, other, space).relative
            assert row[f"distance_{space}"] == pytest.approx(float(distance), abs=1e-5)
    places = [(row["sample"], row["other_sample"], row["prompt"], row["other_prompt"]) for row in rows[:12]]
    pairs = (("a cat", "a dog"), ("a cat", "sky"), ("a dog", "sky"))
    assert places[:9] == [(i, i, *pair) for i in range(3) for pair in pairs]
    assert places[9:] == [(0, 1, "", ""), (0, 2, "", ""), (1, 2, "", "")]


def test_curves_are_means_of_the_rows(finding) -> None:
    for space, (own, other) in zip("xh", zip(finding.curves[:2], finding.curves[2:4], strict=True), strict=True):
        values = torch.tensor(finding.table[f"distance_{space}"], dtype=torch.float64).reshape(2, 12)
        assert own.y == pytest.approx(values[:, :9].mean(1).tolist())
        assert other.y == pytest.approx(values[:, 9:].mean(1).tolist())
        assert own.axes == other.axes
        if space == "x":
            per_sample = values[:, :9].reshape(2, 3, 3).mean(2)
            change = sample_mean(per_sample[1] - per_sample[0])
            assert (finding.number, *finding.interval) == pytest.approx(
                tuple(map(float, (change.value, change.low, change.high)))
            )


def test_distances_are_those_of_the_known_jacobian(model) -> None:
    known = planted(model, lambda t: t)
    finding = STUDIES["prompts"].run(known, TINY)
    point = one_sample(followed_points(known, TINY)[0], 0)
    features, t = known.network.mid_block, torch.tensor(point.t)
    spaces = []
    for prompt in PROMPTS[:2]:
        text = model.conditioning(prompt)["text"].flatten(1)
        slopes = torch.cos(point.sample.flatten(1) @ features.b.T + t * features.w.T)
        jacobian = features.a + t * (torch.tanh(text @ features.g.T) * slopes).T * features.b
        spaces.append(torch.linalg.svd(jacobian, full_matrices=False)[2][: TINY.k])
    exact = subspace_distance(*spaces).relative
    assert float(exact) > 0.05
    assert finding.table["distance_x"][0] == pytest.approx(float(exact), abs=1e-4)


def test_a_planted_fading_is_found(model) -> None:
    finding = STUDIES["prompts"].run(planted(model, lambda t: t), replace(TINY, samples=8, levels=(0.9, 0.5, 0.1)))
    assert finding.holds
    assert -0.5 < finding.number < -0.1
    assert finding.sentence.startswith("The influence of text on tangent spaces fades as noise falls")
    assert "over 8 samples and 3 prompts" in finding.sentence


@pytest.mark.parametrize("strength", [lambda t: 0 * t + 0.5, lambda t: 1 - t], ids=["even", "growing"])
def test_what_does_not_fade_is_not_said_to(model, strength: Strength) -> None:
    finding = STUDIES["prompts"].run(planted(model, strength), replace(TINY, samples=6, levels=(0.9, 0.5, 0.1)))
    assert not finding.holds
    assert finding.interval[1] > 0
    assert "does not surely fade" in finding.sentence


@pytest.mark.parametrize(("fall", "holds"), [({"x": 0.2, "h": 0.2}, True), ({"x": 0.2, "h": 0}, False)])
def test_holds_only_if_both_spaces_agree(fall: dict[str, float], holds: bool) -> None:
    scatter = 0.01 * rand(6, 3, 3, 2)
    tables = BySpace.of(lambda space: 0.5 + scatter - fall[space] * torch.tensor([0.0, 1.0]))
    samples = BySpace.of(lambda space: torch.full((6, 6, 2), 0.8))
    finding = finding_of(PromptDistances([0.9, 0.1], PROMPTS, tables, samples, sample_mean(torch.ones(2))))
    assert finding.holds == holds
    assert finding.number == pytest.approx(-0.2, abs=0.01)


def test_the_empty_text_may_be_one_of_the_prompts(model) -> None:
    finding = STUDIES["prompts"].run(model, replace(TINY, tol=0.1, prompts=("", "a cat", "sky")))
    assert finding.table["prompt"][:3] == ["", "", "a cat"]


def test_what_cannot_be_studied_is_refused_before_anything_is_computed(model, tiny_model, monkeypatch) -> None:
    monkeypatch.setattr("latentjac.studies.prompts.followed_points", None)
    message = "prompts: model must be conditioned on text, got 'UNet2DModel', which is not"
    with pytest.raises(ValueError, match=message):
        STUDIES["prompts"].run(tiny_model, TINY)
    with pytest.raises(ValueError, match=r"prompts: settings\.samples must be at least 3, got 2"):
        STUDIES["prompts"].run(model, replace(TINY, samples=2))
