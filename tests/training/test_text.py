"""The text model at toy size: both stages stop, resume and end in a pipeline that diffusers and latentjac load."""

from __future__ import annotations

import json
import random
from pathlib import Path

import evaluate_text
import pytest
import torch
import train_text
import train_text_autoencoder
from avatars import draw, sample_factors
from captions import HELD_OUT_PAIRS, TERMS, seen_together
from diffusers import AutoencoderKL, StableDiffusionPipeline
from evaluate_text import Asked, ask_for, by_factor, control_prompts, held_out_prompts, together
from factors.reader import FactorReader
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from text_networks import build_autoencoder
from train_text_autoencoder import standardize

import latentjac

SHARED = ["--batch", "2", "--device", "cpu", "--precision", "fp32"]
AUTOENCODER = [*SHARED, "--size", "32", "--widths", "8", "8", "8"]
DENOISER = [*SHARED, "--widths", "16", "16"]


def steps_of(state: Path) -> int:
    with safe_open(state, "pt") as f:
        return int(f.metadata()["steps"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the two stages write."""
    root = tmp_path_factory.mktemp("text")
    cooled = ["--cool-down", "1", "--export"]
    train_text_autoencoder.main([*AUTOENCODER, "--work", str(root / "a"), *cooled, str(root / "vae")])
    train_text.main(
        [*DENOISER, "--vae", str(root / "vae"), "--work", str(root / "d"), *cooled, str(root / "avatars-text")]
    )
    return root / "avatars-text"


def test_a_pool_is_drawn_once_and_gives_other_captions_at_every_visit(folder, tmp_path) -> None:
    options = [*DENOISER, "--start-from", str(folder), "--work", str(tmp_path), "--pool", "3"]
    train_text.main([*options, "--minutes", "0"])
    pool = tmp_path / "pool-3.safetensors"
    drawn = pool.read_bytes()
    train_text.main([*options, "--minutes", "0"])
    assert pool.read_bytes() == drawn
    assert steps_of(tmp_path / "state.safetensors") == 2
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae")
    factors = load_file(pool)
    latents = factors.pop("latents")
    tokenizer = StableDiffusionPipeline.from_pretrained(folder).tokenizer
    torch.manual_seed(0)
    batches = train_text.pooled_latents((latents, factors), tokenizer, 8, torch.device("cpu"))
    (first, tokens), (_, others) = next(batches), next(batches)
    assert first.shape == (8, 4, 8, 8)
    assert not torch.equal(tokens, others)
    pixels = (draw({name: values[:1] for name, values in factors.items()}, 32) * 255).round() / 127.5 - 1
    own = autoencoder.encode(pixels).latent_dist.mode() * autoencoder.config.scaling_factor
    assert torch.allclose(own, latents[:1].float(), atol=2e-2)


def test_the_model_samples_alike_in_diffusers_and_here(folder) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(folder)
    assert model.sample_shape == (4, 8, 8)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    prompt = {"prompt": "a smiling person with glasses", "guidance_scale": 3.0, "num_inference_steps": 4}
    theirs = pipeline(**prompt, latents=noise, output_type="pt").images
    generator = torch.Generator().manual_seed(1)
    ours = latentjac.sample(model, **prompt, generator=generator, output_type="pt")
    assert theirs.shape == (1, 3, 32, 32)
    assert torch.allclose(theirs, ours, atol=1e-3)


def test_words_change_the_prediction(folder) -> None:
    model = latentjac.load(folder)
    x, t = torch.ones(1, *model.sample_shape), torch.tensor(500)
    one, other = (model.eps(x, t, model.conditioning(prompt)) for prompt in ("blue hair", "green eyes"))
    assert (one - other).norm() > 1e-4 * one.norm()


def test_weights_ship_in_half_precision_with_a_card_and_plain_tokenizer_files(folder) -> None:
    for part in ("unet", "vae"):
        weights = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        assert {w.dtype for w in weights.values()} == {torch.float16}
    assert (folder / "README.md").exists()
    assert (folder / "tokenizer" / "vocab.json").exists()
    assert (folder / "tokenizer" / "merges.txt").exists()
    assert '"images_seen": 2' in (folder / "training.json").read_text()


def test_a_plateau_goes_on_until_so_many_images(tmp_path) -> None:
    plateau = [*AUTOENCODER, "--work", str(tmp_path), "--until", "6"]
    train_text_autoencoder.main([*plateau, "--minutes", "0"])
    assert steps_of(tmp_path / "state.safetensors") == 1
    train_text_autoencoder.main([*plateau, "--minutes", "10"])
    assert steps_of(tmp_path / "state.safetensors") == 3
    train_text_autoencoder.main([*plateau, "--minutes", "10"])
    assert steps_of(tmp_path / "state.safetensors") == 3


def test_a_cool_down_that_was_stopped_goes_on(tmp_path, capsys) -> None:
    work = tmp_path / "work"
    train_text_autoencoder.main([*AUTOENCODER, "--work", str(work), "--minutes", "0"])
    state = work / "state.safetensors"
    # As if a cool-down of five steps had been stopped after its second.
    with safe_open(state, "pt") as f:
        half = {name: f.get_tensor(name) for name in f.keys()}
    cooling = work / "cool-down-1-5.safetensors"
    save_file(half, cooling, metadata={"steps": "3", "images": "6"})
    of_before = work / "cool-down-0-5.safetensors"
    of_before.touch()
    cool_down = [*AUTOENCODER, "--work", str(work), "--cool-down", "5"]
    train_text_autoencoder.main(cool_down)
    assert steps_of(cooling) == 6
    assert not of_before.exists()
    with safe_open(cooling, "pt") as f:
        assert f.metadata()["images"] == "12"
    train_text_autoencoder.main([*cool_down, "--export", str(tmp_path / "vae")])
    assert not cooling.exists()
    assert steps_of(state) == 1
    assert '"images_seen": 12' in (tmp_path / "vae" / "training.json").read_text()


def test_standardized_latents_decode_to_the_same_pictures() -> None:
    torch.manual_seed(0)
    autoencoder: AutoencoderKL = build_autoencoder(32, (8, 8, 8)).eval()
    torch.nn.init.normal_(autoencoder.quant_conv.bias)
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior = autoencoder.encode(x).latent_dist
        before = autoencoder.decode(posterior.mode()).sample
        ratio = posterior.std / posterior.mean.std((0, 2, 3), keepdim=True)
        standardize(autoencoder, x)
        posterior = autoencoder.encode(x).latent_dist
        after = autoencoder.decode(posterior.mode()).sample
    assert torch.allclose(posterior.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(posterior.mean.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(posterior.std, ratio, rtol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)


def test_the_evaluation_fills_the_card(folder, tmp_path) -> None:
    evaluate_text.main(
        [
            *("--model", str(folder), "--reader", str(toy_reader(tmp_path)), "--prompts", "6", "--each-pair", "1"),
            *("--unprompted", "4", "--drawings", "8", "--steps", "1", "--device", "cpu"),
            *("--sheet", str(tmp_path / "sheet.png")),
        ]
    )
    card = (folder / "README.md").read_text()
    assert "| skin | 0.00 | 0.10 | pale skin, a pale complexion |" in card
    assert "guidance 3 | chance | drawings |" in card
    quality = json.loads((folder / "quality.json").read_text())
    assert set(quality["prompts"]["guidance_3"]["by_pair"]) == {f"{a}, {b}" for a, b in HELD_OUT_PAIRS}
    assert 0 < quality["autoencoder"]["psnr_db"] < 30
    assert Image.open(tmp_path / "sheet.png").size == (8 * 32, 6 * 32)


def toy_reader(folder: Path) -> Path:
    torch.manual_seed(0)
    FactorReader(32).save(folder / "reader.safetensors")
    return folder / "reader.safetensors"


def test_what_was_asked_for_is_counted_against_all_other_samples() -> None:
    glasses, beard = TERMS["glasses"], TERMS["a beard"]
    asked = [Asked("", (glasses,)), Asked("", (glasses, beard)), Asked("", (beard,))]
    finds = {"glasses": torch.tensor([True, False, True]), "a beard": torch.tensor([False, True, True])}
    scores = by_factor(asked, finds)
    assert scores["glasses"] == {"asked": 2, "found": 0.5, "chance": 0.75}
    assert scores["beard"] == {"asked": 2, "found": 1.0, "chance": 0.5}
    assert set(scores) == {"glasses", "beard"}
    assert together(asked, finds) == pytest.approx(2 / 3, abs=1e-4)


def test_drawings_have_what_their_captions_say() -> None:
    factors = sample_factors(torch.Generator().manual_seed(2), 20)
    asked = ask_for(factors, random.Random(0))
    holds = {name: term.holds(factors[term.factor]) for name, term in TERMS.items()}
    assert all(one.prompt and one.terms for one in asked)
    assert {score["found"] for score in by_factor(asked, holds).values()} == {1.0}
    assert together(asked, holds) == 1


def test_controls_of_held_out_pairs_share_their_factors_and_were_seen() -> None:
    rng = random.Random(0)
    pairs, controls = held_out_prompts(3, rng), control_prompts(3, rng)
    for pair, control in zip(pairs, controls, strict=True):
        assert [term.factor for term in pair.terms] == [term.factor for term in control.terms]
        assert not seen_together(pair.terms)
        assert seen_together(control.terms)


def test_training_goes_on_from_a_model(folder, tmp_path, capsys) -> None:
    """At rate 0 nothing changes, and what was seen is counted on."""
    options = [*DENOISER, "--work", str(tmp_path / "d"), "--rate", "0", "--cool-down", "1"]
    train_text.main([*options, "--start-from", str(folder), "--export", str(tmp_path / "again")])
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        before, after = (load_file(root / f"{part}.safetensors") for root in (folder, tmp_path / "again"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    before, after = (json.loads((root / "training.json").read_text()) for root in (folder, tmp_path / "again"))
    assert after == before | {"images_seen": before["images_seen"] + 2}
    with pytest.raises(SystemExit):
        train_text.main([*options])
    assert "expected one of --vae and --start-from" in capsys.readouterr().err
