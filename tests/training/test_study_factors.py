"""The study of what directions mean: its measures on known changes, its controls, and all of it on a toy network."""

from __future__ import annotations

import csv
import json
import math

import draw_sparse
import pytest
import study_factors
import study_sparse
import torch
from avatars import BY_NAME, FACTORS, draw
from diffusers import DDIMPipeline
from factors.collecting import CONTINUOUS, Observation
from factors.directions import moved_factor, rotated
from factors.equal_effect import at_effect, both_ways, guided_move, linear_move, rms
from factors.matching import best_in_span, match, single_changes
from factors.meaning import (
    NAMES,
    agreement,
    antisymmetry,
    entropy_purity,
    floor_of,
    largest,
    mixture_purity,
    purity_of,
    read_changes,
    scrambled,
    shuffled,
)
from factors.reader import FactorReader
from factors.reader_training import drawings
from factors.report import main_row
from factors.statistics import CONTROLS, difference, summary, tables
from network import build_scheduler, build_unet
from networks import point_at
from PIL import Image
from study_sparse import ROTATED, SINGULAR, SPARSE

import latentjac
from latentjac.diffusion import predict_noise

SKIN = NAMES.index("skin")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def change(**sizes: float) -> torch.Tensor:
    return torch.tensor([[sizes.get(name, 0.0) for name in NAMES]])


def test_purity_of_pure_mixed_and_no_changes() -> None:
    moves = torch.cat([change(skin=-2.0), change(skin=1.0, beard=-1.0), torch.full((1, 16), 0.3), change()])
    assert purity_of(moves).tolist() == pytest.approx([1, 1 / 2, 1 / 16, 0])
    assert entropy_purity(moves).tolist() == pytest.approx([1, 1 - math.log(2) / math.log(16), 0, 0], abs=1e-6)
    assert largest(moves[[0, 3]]) == ["skin", ""]


def test_purity_does_not_depend_on_the_size_of_a_change() -> None:
    moves = torch.randn(50, 16, generator=seeded())
    for measure in (purity_of, entropy_purity):
        assert torch.allclose(measure(7 * moves), measure(moves), atol=1e-6)


def test_opposite_changes_are_antisymmetric() -> None:
    plus = torch.randn(3, 3, 8, 8, generator=seeded())
    assert antisymmetry(plus, -2 * plus).tolist() == pytest.approx([1] * 3)
    assert antisymmetry(plus, plus).tolist() == pytest.approx([-1] * 3)
    assert antisymmetry(plus, torch.zeros_like(plus)).tolist() == [0] * 3


def test_meaningless_changes_hardly_exceed_the_floor() -> None:
    meaningless = torch.randn(4000, 16, generator=seeded()) * torch.linspace(0.1, 1.6, 16)
    assert torch.allclose(floor_of(meaningless), 1.96 * torch.linspace(0.1, 1.6, 16), rtol=0.1)


def test_scrambling_keeps_size_spectrum_and_colours_and_nothing_else() -> None:
    differences = torch.randn(6, 3, 32, 32, generator=seeded()).cumsum(2)
    found = scrambled(differences, seeded(1))
    assert torch.allclose(rms(found, torch.zeros(1)), rms(differences, torch.zeros(1)), rtol=1e-4)
    spectra = [torch.fft.fft2(x).abs() for x in (differences, found)]
    assert torch.allclose(*spectra, rtol=1e-3, atol=1e-2)
    colours = [torch.einsum("nchw,ndhw->ncd", x, x) for x in (differences, found)]
    assert torch.allclose(*colours, rtol=1e-3, atol=1e-1)
    assert torch.cosine_similarity(differences.flatten(1), found.flatten(1)).abs().mean() < 0.5


@pytest.fixture(scope="module")
def avatar() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One avatar with its picture."""
    return drawings(1, 3, 32)


def test_a_change_of_one_factor_is_explained_by_it_alone(avatar) -> None:
    factors, picture = avatar
    singles = single_changes(factors, 32)
    for name in ("skin", "tilt", "glasses", "hair_style", "mouth_open"):
        factor = BY_NAME[name]
        other = factors | {name: (factor.low + factor.high - factors[name]).to(factors[name].dtype)}
        found = match(draw(other, 32) - picture, singles)
        assert largest(found.shares) == [name]
        assert found.shares.amax() > 0.8, name
        assert found.explained[0] >= found.shares.amax() - 1e-5


def test_a_faint_change_of_one_factor_is_as_well_explained(avatar) -> None:
    factors, picture = avatar
    difference = draw(factors | {"glasses": 1 - factors["glasses"]}, 32) - picture
    found = match(torch.cat([difference, 0.1 * difference, -difference]), single_changes(factors, 32))
    assert found.shares[:2, NAMES.index("glasses")].tolist() == pytest.approx([1, 1], abs=1e-5)
    # The opposite of what a factor can do to this avatar is nothing that the factor does.
    assert found.shares[2, NAMES.index("glasses")] == 0


def test_two_factors_explain_together_what_neither_does_alone(avatar) -> None:
    factors, picture = avatar
    both = moved_factor(moved_factor(factors, "background", 0.5), "hair_color", 0.5)
    found = match(draw(both, 32) - picture, single_changes(factors, 32))
    assert found.shares.amax() < 0.97
    assert found.explained[0] > found.shares.amax() + 0.02


def test_a_mixture_that_makes_one_factor_is_found_in_a_span(avatar) -> None:
    factors, picture = avatar
    skin, hair = (draw(moved_factor(factors, name, 0.5), 32) - picture for name in ("skin", "hair_color"))
    parts = best_in_span(torch.cat([skin + hair, skin - 0.5 * hair]), single_changes(factors, 32))
    assert parts[SKIN] > 0.95
    assert parts[NAMES.index("hair_color")] > 0.95
    assert parts[NAMES.index("turn")] < 0.5
    alone = best_in_span(skin + hair, single_changes(factors, 32))
    together = match(skin + hair, single_changes(factors, 32))
    assert torch.allclose(alone.float()[alone > 1e-9].max(), together.shares.max(), atol=1e-4)


def test_scrambled_changes_are_explained_by_nothing(avatar) -> None:
    factors, picture = avatar
    every = torch.cat([draw(moved_factor(factors, name, 0.5), 32) for name in ("skin", "tilt", "hair_color")])
    singles = single_changes(factors, 32)
    noise = scrambled((every - picture).repeat(10, 1, 1, 1), seeded())
    assert match(every - picture, singles).shares.amax(1).min() > 0.8
    assert match(noise, singles).shares.amax(1).mean() < 0.25
    assert match(torch.zeros_like(every), singles).shares.amax() == 0


def test_mixtures_are_as_pure_as_evenly_drawn_shares() -> None:
    # Squares of independent normal values over their sum follow Dirichlet's distribution with parameters 1/2.
    torch.manual_seed(0)
    shares = torch.distributions.Dirichlet(torch.full((16,), 0.5)).sample((100_000,))
    assert mixture_purity(seeded()) == pytest.approx(shares.amax(1).mean().item(), abs=0.003)


def test_shuffling_keeps_sizes_and_breaks_what_belongs_together() -> None:
    moves = torch.zeros(64, 16)
    moves[torch.arange(64), torch.arange(64) % 16] = 1.0
    found = shuffled(moves, seeded())
    assert torch.equal(found.sort(0).values, moves.sort(0).values)
    assert purity_of(moves).mean() == 1
    assert purity_of(found).mean() < 0.8


def test_agreement_counts_names_and_not_silence() -> None:
    assert agreement([["skin", "tilt"], ["skin", "tilt"], ["skin", ""]]).tolist() == pytest.approx([0.75, 0.75, 0.5])
    assert agreement([["", ""], ["", ""]]).tolist() == [0, 0]


def test_rotations_stay_in_the_span_and_leave_the_basis() -> None:
    v = torch.linalg.qr(torch.randn(48, 5, generator=seeded()))[0].T.reshape(5, 3, 4, 4)
    turns = torch.stack([rotated(v, seeded(i)).flatten(1) @ v.flatten(1).T for i in range(300)])
    assert torch.allclose(turns @ turns.mT, torch.eye(5).expand(300, 5, 5), atol=1e-5)
    # Over all rotations every entry has mean 0 and mean square 1 / k.
    assert turns.mean(0).abs().max() < 0.1
    assert (turns.square().mean(0) - 1 / 5).abs().max() < 0.05


def test_amounts_are_found_that_have_one_effect() -> None:
    strength = torch.tensor([1.0, 0.1, 0.02, 5.0])
    counted = []

    def move(rows: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
        counted.append(len(rows))
        return (rows.flatten(1)[:, :1] * amounts[:, None]).tanh().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    rows = strength.view(-1, 1, 1, 1).expand(4, 3, 4, 4)
    first, best = at_effect(move, rows, torch.zeros(3, 4, 4), start=0.06, target=0.06, tries=4)
    assert first.amounts.tolist() == pytest.approx([0.06] * 4)
    assert first.effects[3] == pytest.approx(math.tanh(0.3))
    assert best.amounts[0] == first.amounts[0]
    assert best.effects.tolist() == pytest.approx([0.06] * 4, rel=0.2)
    assert torch.allclose(best.effects, rms(best.pictures, torch.zeros(1)))
    assert counted[0] == 4
    assert sum(counted) < 12


def test_an_effect_that_is_not_reached_is_reported_as_it_is() -> None:
    def deaf(rows: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
        return (1e-4 * amounts).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    _, best = at_effect(deaf, torch.ones(2, 3, 4, 4), torch.zeros(3, 4, 4), start=1.0, target=0.1)
    assert best.amounts.tolist() == pytest.approx([36.0, 36.0])
    assert best.effects.tolist() == pytest.approx([0.0036, 0.0036])


def test_linear_moves_are_those_of_edit(tiny_model, tiny_point) -> None:
    v = torch.randn(2, 3, 16, 16, generator=seeded(), dtype=torch.float64)
    method = latentjac.editing.Linear(num_steps=1, layer="eps")
    edit = latentjac.edit(tiny_model, tiny_point, v, [2.0, -2.0], method=method)
    move = linear_move(tiny_model, tiny_point)
    pictures = move(both_ways(v), torch.full((4,), 2.0, dtype=torch.float64))
    assert torch.allclose(pictures, tiny_model.codec.decode(edit.samples.transpose(0, 1).flatten(0, 1)).to(pictures))


def test_guided_moves_follow_the_difference_of_predicted_noise(tiny_model, tiny_point) -> None:
    v = torch.randn(1, 3, 16, 16, generator=seeded(), dtype=torch.float64)
    unit, x, t = v / v.norm(), tiny_point.sample, tiny_point.timestep
    for _ in range(2):
        x = x + 0.1 * (predict_noise(tiny_model, x + unit, t) - predict_noise(tiny_model, x, t))
    expected = latentjac.sample(tiny_model, point_at(x, t), output_type="pt")
    assert torch.allclose(guided_move(tiny_model, tiny_point, 2)(v, torch.tensor([0.1])), expected, atol=1e-6)


def observations(arm: str, shares: torch.Tensor, opposite: torch.Tensor | None = None) -> list[Observation]:
    """Edits of one direction at each of the samples, ``[N, 16]`` for +v and for -v."""
    ways = {1: shares, -1: shares if opposite is None else opposite}
    return [
        Observation(arm, 0.6, "effect", i, 0, sign, 3.0, 0.06, 0.9, 1.0, rows[i], sign * rows[i])
        for i in range(len(shares))
        for sign, rows in ways.items()
    ]


def test_statistics_tell_meaning_from_none() -> None:
    arm, control, floor = "local basis, mid", CONTROLS["local basis, mid"], torch.full((16,), 0.5)
    noise = 0.1 * torch.rand(12, 16, generator=seeded())
    found = tables(observations(arm, change(skin=0.8) + noise) + observations(control, 0.2 + noise))
    pure, rest = (found[name, 0.6, "effect"] for name in (arm, control))
    gain = difference(pure, rest)
    exact = (0.8 + noise[:, SKIN] - 0.2 - noise.amax(1)).mean().item()
    for method in ("student", "bootstrap"):
        assert gain[method]["mean"] == pytest.approx(exact, abs=1e-4)
        assert 0.5 < gain[method]["low"] < exact < gain[method]["high"] < 0.65
    numbers = summary(pure, floor, 0.06)
    for name in ("means_something", "same_both_ways", "antisymmetry", "read_above_floor", "read_same_name"):
        assert numbers[name]["mean"] == 1, name
    assert numbers["agreement"] == numbers["factor_first"]["skin"] == numbers["reached"] == 1
    assert main_row(gain)["says"] == "the basis is better than its rotation"
    assert main_row(difference(rest, pure))["says"] == "the rotation is better than the basis"
    assert main_row(difference(pure, pure))["says"] == "the interval holds 0: no difference found"
    nothing = summary(rest, floor, 0.06)
    assert nothing["means_something"]["mean"] == nothing["read_above_floor"]["mean"] == 0


def test_another_factor_on_the_way_back_is_no_meaning() -> None:
    skin, tilt = (change(**{name: 0.9}).repeat(12, 1) for name in ("skin", "tilt"))
    found = tables(observations("paper", skin, tilt))["paper", 0.6, "effect"]
    numbers = summary(found, torch.zeros(16), 0.06)
    assert numbers["one_factor"]["mean"] == pytest.approx(0.9)
    assert numbers["means_something"]["mean"] == numbers["same_both_ways"]["mean"] == 0


def test_a_known_change_is_drawn_in_one_factor_and_within_its_range() -> None:
    factors, _ = drawings(8, 0, 16)
    moved = moved_factor(factors, "tilt", 0.25)
    assert (moved["tilt"] - factors["tilt"]).max() == pytest.approx(0.5)
    assert moved["tilt"].max() <= 1
    assert all(torch.equal(moved[name], factors[name]) for name in NAMES if name != "tilt")
    assert not torch.equal(draw(moved, 16), draw(factors, 16))


def test_reading_one_picture_against_many() -> None:
    reader = FactorReader(16)
    pictures = torch.rand(3, 3, 16, 16, generator=seeded())
    together = read_changes(reader, pictures[0], pictures)
    assert together.shape == (3, len(FACTORS))
    assert together[0].abs().max() < 1e-5
    assert torch.allclose(together[1:2], read_changes(reader, pictures[0], pictures[1:2]), atol=1e-5)


def test_quick_study_of_a_toy_network(tmp_path, capsys) -> None:
    torch.manual_seed(0)
    unet = build_unet(16, (16, 32))
    DDIMPipeline(unet=unet, scheduler=build_scheduler()).save_pretrained(tmp_path / "model")
    FactorReader(16).save(tmp_path / "model" / "reader.safetensors")
    places = ["--tables", str(tmp_path), "--images", str(tmp_path), "--every", str(tmp_path / "every.csv")]
    study_factors.main(["--model", str(tmp_path / "model"), "--quick", *places])
    found = json.loads((tmp_path / "factors.json").read_text())
    arms = {row["directions"] for row in found["rows"]}
    assert arms >= {*CONTROLS, *CONTROLS.values(), "random", "PCA of x0", "PCA of h", "shared, mid"}
    assert set(found["results"]["main_number"]) == {"student", "bootstrap"}
    assert found["plan"]["samples"] == 2
    lines = list(csv.DictReader((tmp_path / "every.csv").open()))
    assert len(lines) == found["edits"]
    assert {line["arm"] for line in lines} >= arms
    drawn = [line for line in lines if line["arm"] == "factor, drawn"]
    assert len(drawn) == 2 * 2 * len(CONTINUOUS)
    for name in ("factors.png", "factors-examples.png"):
        assert (tmp_path / name).stat().st_size > 5000
    assert f"{found['edits']} edits in" in capsys.readouterr().out


def test_sparse_directions_are_studied_and_drawn(tmp_path, capsys) -> None:
    unet = build_unet(16, (16, 32))
    DDIMPipeline(unet=unet, scheduler=build_scheduler()).save_pretrained(tmp_path / "model")
    reader = tmp_path / "reader.safetensors"
    FactorReader(16).save(reader)
    places = ["--reader", str(reader), "--tables", str(tmp_path)]
    study_sparse.main(["--model", str(tmp_path / "model"), "--samples", "2", *places])
    found = json.loads((tmp_path / "sparse_model.json").read_text())
    assert [row["directions"] for row in found["rows"]] == [SINGULAR, ROTATED, SPARSE]
    assert [row["sparse directions less"] for row in found["differences"]] == [SINGULAR, ROTATED]
    assert "edits in" in capsys.readouterr().out
    photo, out = tmp_path / "photo.png", tmp_path / "sheet.png"
    Image.new("RGB", (16, 16), "teal").save(photo)
    draw_sparse.main(["--model", str(tmp_path / "model"), "--photo", str(photo), "-k", "2", "--out", str(out)])
    assert Image.open(out).size == (5 * 2 * 22, 2 * 2 * 22)


def test_one_avatar_is_too_few(capsys) -> None:
    with pytest.raises(SystemExit):
        study_factors.main(["--model", "nowhere", "--samples", "1"])
    assert "--samples: expected at least 2, got 1" in capsys.readouterr().err
