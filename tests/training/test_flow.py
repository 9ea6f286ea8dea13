"""The flow at toy size: it stops, resumes and ends in a pipeline that diffusers and latentjac load."""

from __future__ import annotations

import json
from pathlib import Path

import evaluate_text
import pytest
import study_blocks
import torch
import train_flow
import train_text_autoencoder
from captions import vocabulary
from diffusers import PixArtAlphaPipeline
from factors.reader import FactorReader
from flow_networks import FlowDenoiser, WrittenOutAttention, build_flow_scheduler, build_word_tokenizer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import latentjac

SHARED = ["--batch", "2", "--device", "cpu", "--precision", "fp32"]
FLOW = [*SHARED, "--widths", "64", "--layers", "2", "--patch", "4", "--pool", "4", "--text-steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a run writes that is stopped after a step and resumed; its work lies beside it."""
    root = tmp_path_factory.mktemp("flow")
    small = [*SHARED, "--size", "32", "--widths", "8", "8", "8", "--work", str(root / "a")]
    train_text_autoencoder.main([*small, "--cool-down", "1", "--export", str(root / "vae")])
    flow = [*FLOW, "--vae", str(root / "vae"), "--work", str(root / "d")]
    train_flow.main([*flow, "--minutes", "0"])
    train_flow.main([*flow, "--cool-down", "1", "--export", str(root / "avatars-flow")])
    return root / "avatars-flow"


def test_it_resumes_with_what_it_has_kept(folder) -> None:
    with safe_open(folder.parent / "d" / "state.safetensors", "pt") as f:
        assert f.metadata() == {"steps": "1", "images": "2"}
    seen = json.loads((folder / "training.json").read_text())
    assert seen == {"images_seen": 4, "avatars_drawn": 4, "images_seen_by_autoencoder": 2}
    pool = load_file(folder.parent / "d" / "pool-4.safetensors")
    assert pool["latents"].shape == (4, 4, 8, 8)
    assert pool["latents"].dtype == torch.float16
    assert pool["skin"].shape == (4,)


def test_it_samples_alike_in_diffusers_and_here(folder) -> None:
    pipeline = PixArtAlphaPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(folder)
    assert model.sample_shape == (4, 8, 8)
    torch.nn.init.normal_(model.network.proj_out.weight, std=0.02)
    pipeline.transformer.load_state_dict(model.network.state_dict())
    prompt = {"prompt": "a smiling person with glasses", "guidance_scale": 3.0, "num_inference_steps": 4}
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = pipeline(**prompt, latents=noise, use_resolution_binning=False, output_type="pt").images
    generator = torch.Generator().manual_seed(1)
    solver = latentjac.diffusion.Multistep()
    ours = latentjac.sample(model, **prompt, generator=generator, solver=solver, output_type="pt")
    assert theirs.shape == (1, 3, 32, 32)
    # PixArt's pipeline cuts the times of levels between whole timesteps off.
    assert torch.allclose(theirs, ours, atol=0.01)
    assert ours.std() > 0.1


def test_a_caption_is_one_token_a_word() -> None:
    tokenizer = build_word_tokenizer(vocabulary())
    said = tokenizer.tokenize("a smiling person with no glasses, curls and xy")
    assert [t.strip("\u2581") for t in said] == [*"a smiling person with no glasses , curls and".split(), "", "x", "y"]
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


def test_the_text_encoder_learns_which_terms_a_caption_holds(tmp_path) -> None:
    torch.manual_seed(0)
    texts, said = train_flow.texts_and_terms(200)
    assert said.sum() > 300
    assert all((not text) == (row.sum() == 0) for text, row in zip(texts, said, strict=True))
    tokenizer = build_word_tokenizer(vocabulary())
    encoder = FlowDenoiser(tokenizer, 8, 4, 64, 1, 4).text_encoder
    train_flow.taught_text(encoder, tokenizer, 2, tmp_path / "text.safetensors")
    again = FlowDenoiser(tokenizer, 8, 4, 64, 1, 4).text_encoder
    train_flow.taught_text(again, tokenizer, 0, tmp_path / "text.safetensors")
    assert torch.equal(encoder.shared.weight, again.shared.weight)


def test_attention_written_out_is_that_of_diffusers() -> None:
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer(vocabulary())
    denoiser = FlowDenoiser(tokenizer, 8, 4, 64, 2, 2).eval()
    torch.nn.init.normal_(denoiser.transformer.proj_out.weight)
    tokens, mask = train_flow.tokens_of(tokenizer, ["a smile", "a person with red hair, glasses"], torch.device("cpu"))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([200.0, 700.0])
    with torch.no_grad():
        fused = denoiser(x, t, tokens, mask)
        denoiser.transformer.set_attn_processor(WrittenOutAttention())
        written = denoiser(x, t, tokens, mask)
    assert torch.allclose(fused, written, atol=1e-4)


def test_the_loss_of_the_true_velocity_of_one_point_is_that_of_the_noise() -> None:
    """With one latent x, ``noise - x = (sample - x) / s`` is known from the sample."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 8, 8).expand(16, 4, 8, 8)

    def knows(sample, timesteps, tokens, mask):
        return (sample - x) / (timesteps / 1000).view(-1, 1, 1, 1)

    def hopes(sample, timesteps, tokens, mask):
        return -x

    assert train_flow.flow_loss(knows, x, None, None) < 1e-4
    assert train_flow.flow_loss(hopes, x, None, None).item() == pytest.approx(1, abs=0.05)


def test_times_are_logit_normal() -> None:
    torch.manual_seed(0)
    times = train_flow.draw_times(4000, torch.device("cpu"))
    assert 0 < times.min() < 0.03
    assert 0.97 < times.max() < 1
    assert times.logit().std().item() == pytest.approx(1, abs=0.02)
    assert times.median().item() == pytest.approx(0.5, abs=0.01)


def test_the_scheduler_places_levels_evenly() -> None:
    scheduler = build_flow_scheduler()
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]


def test_the_evaluation_fills_the_card(folder, tmp_path) -> None:
    evaluate_text.main(
        [
            *("--model", str(folder), "--reader", str(toy_reader(tmp_path)), "--prompts", "4", "--each-pair", "1"),
            *("--unprompted", "4", "--drawings", "8", "--steps", "1", "--device", "cpu"),
        ]
    )
    card = (folder / "README.md").read_text()
    assert "Trained on 4 avatars, 4 different ones, the autoencoder before it on 2." in card


def test_the_study_of_blocks(folder, tmp_path, capsys) -> None:
    places = ["--tables", str(tmp_path), "--images", str(tmp_path), "--reader", str(toy_reader(tmp_path))]
    study_blocks.main(["--model", str(folder), "--samples", "2", "-k", "1", "--levels", "5", *places])
    found = json.loads((tmp_path / "blocks_avatars_flow.json").read_text())
    layers = ["transformer_blocks.0", "transformer_blocks.1", "x0", "random"]
    assert [(row["t"], row["layer"]) for row in found["rows"]] == [(0.9, layer) for layer in layers]
    assert found["middle"] == "transformer_blocks.1"
    assert [row["layer"] for row in found["differences"]] == [layers[0], *layers[2:]]
    assert Image.open(tmp_path / "blocks.png").size[0] > 500
    with pytest.raises(SystemExit):
        study_blocks.main(["--model", str(folder), "--samples", "1"])
    assert "--samples: expected at least 2, got 1" in capsys.readouterr().err


def toy_reader(folder: Path) -> Path:
    torch.manual_seed(0)
    FactorReader(32).save(folder / "reader.safetensors")
    return folder / "reader.safetensors"
