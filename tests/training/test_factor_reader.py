"""The reader of factors learns in seconds what drawings show, and its measures know what was changed."""

from __future__ import annotations

import json

import evaluate_avatars
import pytest
import torch
import train_avatars
from avatars import BY_NAME, FACTORS, draw, sample_factors
from factors.measures import (
    as_factors,
    as_readings,
    changes,
    distances,
    psnr,
    purity,
    read_closely,
    refine,
    strongest_correlation,
)
from factors.reader import FactorReader
from factors.reader_training import HELD_OUT_SEED, drawings, roughen, scores, train_reader
from safetensors import safe_open
from safetensors.torch import save_file

from latentjac.files import FileError

SIZE = 32


@pytest.fixture(scope="module")
def reader() -> FactorReader:
    return train_reader(2560, size=SIZE)


@pytest.fixture(scope="module")
def held_out() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return drawings(512, HELD_OUT_SEED, SIZE)


def test_reads_new_drawings_better_than_chance(reader, held_out) -> None:
    factors, pictures = held_out
    found = scores(reader.read(pictures), factors)
    assert set(found) == set(BY_NAME)
    for name in ("background", "skin", "shirt", "hair_color", "tilt", "turn"):
        assert found[name]["r2"] > 0.5, (name, found[name])
    assert found["hair_style"]["accuracy"] > found["hair_style"]["chance"] + 0.3, found["hair_style"]


def test_names_the_factor_that_was_changed(reader, held_out) -> None:
    factors, pictures = held_out
    before = reader.read(pictures)
    for name in ("background", "tilt"):
        factor = BY_NAME[name]
        middle = (factor.low + factor.high) / 2
        moved = torch.where(factors[name] > middle, factor.low, factor.high)
        names, share = purity(changes(before, reader.read(draw(factors | {name: moved}, SIZE))))
        assert sum(n == name for n in names) > 0.7 * len(names)
        assert share.min() > 1 / len(FACTORS)


def test_perfect_readings_give_pure_changes() -> None:
    factors = sample_factors(torch.Generator().manual_seed(0), 32)
    before = as_readings(factors)
    assert all(not v.any() for v in changes(before, before).values())
    for factor in FACTORS:
        other = sample_factors(torch.Generator().manual_seed(1), 32)[factor.name]
        different = other != factors[factor.name]
        names, share = purity(changes(before, as_readings(factors | {factor.name: other})))
        assert all(n == factor.name for n, d in zip(names, different.tolist(), strict=True) if d)
        assert torch.allclose(share[different], torch.ones(()))


def test_perfect_readings_are_drawn_again(held_out) -> None:
    factors, pictures = held_out
    drawn = draw(as_factors(as_readings(factors)), SIZE)
    assert torch.allclose(drawn, pictures, atol=1e-6)


def test_refining_finds_the_factors_that_were_drawn(held_out) -> None:
    factors, pictures = ({k: v[:16] for k, v in held_out[0].items()}, held_out[1][:16])
    rough = dict(factors)
    for factor in FACTORS:
        if factor.kind == "continuous":
            nudge = 0.08 * (factor.high - factor.low) * torch.tensor([1.0, -1.0]).repeat(8)
            rough[factor.name] = (factors[factor.name] + nudge).clamp(factor.low, factor.high)
    fine = refine(rough, pictures)
    for name in ("skin", "turn", "tilt", "mouth_curve", "eye_open", "background"):
        before, after = ((f[name] - factors[name]).abs().median() for f in (rough, fine))
        assert after < before / 4, (name, before, after)
    assert torch.equal(fine["hair_style"], factors["hair_style"])
    with pytest.raises(ValueError, match="refine: steps must be at least 1, got 0"):
        refine(rough, pictures, steps=0)


def test_reading_closely_finds_nearer_avatars(reader, held_out) -> None:
    factors, pictures = ({k: v[:16] for k, v in held_out[0].items()}, held_out[1][:16])
    read, close = reader.read(pictures), read_closely(reader, pictures)
    for name in ("background", "tilt", "skin"):
        rough, fine = ((found[name] - factors[name]).abs().median() for found in (read, close))
        assert fine < rough / 2, (name, rough, fine)
    redrawn, others = draw(close, SIZE), pictures.roll(1, 0)
    assert psnr(redrawn, pictures).median() > psnr(others, pictures).median() + 4


def test_distances_see_a_shifted_distribution() -> None:
    first, second, third = (as_readings(sample_factors(torch.Generator().manual_seed(seed), 3000)) for seed in range(3))
    assert max(distances(first, second).values()) < 0.06
    third["skin"] = third["skin"] ** 2
    third["glasses"] = torch.ones(3000)
    found = distances(first, third)
    assert found["skin"] == pytest.approx(0.25, abs=0.05)
    assert found["glasses"] == pytest.approx(1 - BY_NAME["glasses"].probability, abs=0.05)
    third["beard"] = third["glasses"].clone().bernoulli_(0.5)
    third["brows"] = 2 * third["beard"] - 1
    assert set(strongest_correlation(third)[:2]) == {"beard", "brows"}


def test_reader_comes_back_from_its_file(reader, held_out, tmp_path, monkeypatch) -> None:
    reader.save(tmp_path / "reader.safetensors")
    loaded = FactorReader.load(tmp_path / "reader.safetensors")
    assert torch.allclose(loaded.read(held_out[1])["skin"], reader.read(held_out[1])["skin"], atol=0.02)
    monkeypatch.setattr("factors.reader.FACTORS", FACTORS[1:])
    with pytest.raises(FileError, match="must be made for the factors"):
        FactorReader.load(tmp_path / "reader.safetensors")


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({"head.bias": None}, {}, "weights must be those of a reader of 16 pixels"),
        ({"head.bias": torch.zeros(1).half()}, {}, "weights must be those of a reader of 16 pixels"),
        ({"head.bias": "float"}, {}, "weights must be float16"),
        ({"head.bias": "nan"}, {}, "finite weights, got others in head.bias"),
        ({"more": torch.zeros(1).half()}, {}, "weights must be those"),
        ({}, {"size": "9999999999"}, "size must be a number"),
        ({}, {"size": "-16"}, "size must be a number"),
        ({}, {"size": "17"}, "multiple of 16, got 17"),
        ({}, {"size": "32"}, "weights must be those of a reader of 32 pixels"),
    ],
)
def test_files_of_readers_are_not_trusted(tmp_path, tensors: dict, about: dict, message: str) -> None:
    path = tmp_path / "reader.safetensors"
    FactorReader(16).save(path)
    with safe_open(path, "pt") as file:
        whole, known = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    bias = whole["head.bias"]
    changes = {"float": bias.float(), "nan": bias * float("nan")}
    for name, value in tensors.items():
        whole[name] = changes[value] if isinstance(value, str) else value
    save_file({n: v for n, v in whole.items() if v is not None}, path, metadata={**known, **about})
    with pytest.raises(FileError, match=message):
        FactorReader.load(path)


def test_same_seed_same_reader() -> None:
    first, second = (train_reader(64, batch=16, size=16, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_roughened_pictures_stay_close() -> None:
    _, pictures = drawings(4, 0, SIZE)
    rough = roughen(pictures, torch.Generator().manual_seed(0))
    assert not torch.equal(rough, pictures)
    assert psnr(rough, pictures).min() > 15


def test_wrong_pictures_and_sizes_are_refused(reader) -> None:
    with pytest.raises(ValueError, match=r"pictures must have shape \[n, 3, 32, 32\], got \[1, 3, 64, 64\]"):
        reader.read(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="size must be a positive multiple of 16, got 40"):
        FactorReader(40)
    with pytest.raises(ValueError, match="images must be at least one batch of 32, got 10"):
        train_reader(10)


def test_evaluation_fills_the_card(reader, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("factors.measures.refine", lambda factors, pictures: factors)
    toy = ["--size", str(SIZE), "--widths", "16", "16", "32", "32", "--batch", "4", "--device", "cpu"]
    folder = tmp_path / "avatars"
    train_avatars.main([*toy, "--work", str(tmp_path / "work"), "--cool-down", "1", "--export", str(folder)])
    reader.save(folder / "reader.safetensors")
    numbers = ["--samples", "8", "--steps", "2", "--drawings", "64", "--redrawn", "4"]
    evaluate_avatars.main(["--model", str(folder), *numbers, "--sheet", str(tmp_path / "sheet.png")])
    quality = json.loads((folder / "quality.json").read_text())
    assert set(quality["of_samples"]["factor_distances"]) == set(BY_NAME)
    assert quality["of_samples"]["redrawn_psnr_db"] < quality["of_drawings"]["redrawn_psnr_db"]
    card = (folder / "README.md").read_text()
    assert f"| glasses | {quality['reader']['factors']['glasses']['accuracy']:.1%}" in card
    assert card.count("| glasses |") == 2
    assert "8 samples, 2 DDIM steps; trained on 4 images." in card
