"""Folders of pipelines with encoders of every kind give what the objects give, and touch no network."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import sound_pipelines
import torch
import transformers
from diffusers import DDPMScheduler, StableDiffusionXLImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from family_rows.given import PHOTO
from image_transformers import build_flux2
from pictured_pipelines import build_kandinsky
from pipelines import (
    build_flux,
    build_pixart,
    build_sdxl,
    build_stable_diffusion,
    build_stable_diffusion_3,
)
from safetensors.torch import load_file, save_file

import latentjac
from latentjac.models import adapters, pipeline, text_files
from latentjac.models.text_files import EncoderFiles

BUILDERS: dict[str, Callable[[Path], Any]] = {
    "stable diffusion": build_stable_diffusion,
    "sdxl": build_sdxl,
    "refiner": lambda folder: build_sdxl(folder, StableDiffusionXLImg2ImgPipeline, refiner=True),
    "pixart": lambda folder: build_pixart(),
    "pixart sized": lambda folder: build_pixart(sized=True),
    "sd3": build_stable_diffusion_3,
    "sd3 t5": lambda folder: build_stable_diffusion_3(folder, t5=True),
    "flux": build_flux,
    "flux schnell": lambda folder: build_flux(folder, distilled=False),
}
T5 = "text_encoder/config.json"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls: list[str] = []

    def forbid(name: str) -> None:
        def called(*args: object, **kwargs: object) -> None:
            calls.append(name)
            raise OSError(f"{name} was called")

        monkeypatch.setattr(socket, name, called)

    for name in ("socket", "create_connection", "getaddrinfo"):
        forbid(name)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", lambda *args: calls.append("from_pretrained"))
    yield
    assert calls == []


def saved(pipeline: Any, folder: Path, **options: object) -> Path:
    pipeline.save_pretrained(folder, **options)
    return folder


@pytest.fixture(scope="module")
def pixart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(build_pixart(), tmp_path_factory.mktemp("pixart") / "model")


@pytest.fixture
def folder(pixart: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pixart, tmp_path / "model")


def pictures(model: latentjac.Model) -> torch.Tensor:
    noise = torch.Generator().manual_seed(3)
    return latentjac.sample(model, num_inference_steps=2, prompt="a red cat", generator=noise, output_type="pt")


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_folder_gives_what_the_object_gives(kind: str, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    pipeline = BUILDERS[kind](tmp_path / "words")
    size = 16 if "flux" in kind else None
    folder = saved(pipeline, tmp_path / "model", max_shard_size="8KB")  # files of several parts
    assert list((tmp_path / "model").rglob("model-*.safetensors"))
    expected, found = latentjac.load(pipeline, size=size), latentjac.load(folder, size=size)
    for name, tensor in expected.conditioning("a red cat", guidance_scale=2.0).items():
        torch.testing.assert_close(found.conditioning("a red cat", guidance_scale=2.0)[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(pictures(found), pictures(expected), rtol=0, atol=0)


# Of families whose encoders and further parts are of other kinds.
ROWS = ["sana", "hunyuan-dit", "cogview-3", "cogview-4", "qwen-image", "z-image", "lumina-2", "chroma", "kandinsky-2-1",
        "unclip", "deepfloyd", "wan", "ltx", "cogvideox", "stable-audio"]  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_folder_of_a_family_gives_what_the_object_gives(name: str, tmp_path: Path, monkeypatch) -> None:
    noiseless = sound_pipelines.CosineDPMSolverMultistepScheduler
    monkeypatch.setattr(diffusers, noiseless.__name__, noiseless)  # that of diffusers needs torchsde
    row = families.SMALL[name]
    pipeline = row.source(tmp_path / "words")
    folder = saved(pipeline, tmp_path / "model", max_shard_size="8KB")
    expected, found = row.load(pipeline), row.load_from(folder, alone=False)
    assert found.identity() == expected.identity()
    under = row.conditioning(expected, 2.0)
    assert row.conditioning(found, 2.0) == under
    noise = torch.randn(1, *expected.sample_shape, generator=torch.Generator().manual_seed(3))
    outputs = [model.eps(noise, torch.tensor(500.0), under) for model in (expected, found)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)


def test_counts_of_batches_are_whole_numbers(tmp_path: Path) -> None:
    """As in the normalization of latents of Flux 2."""
    folder = saved(build_flux2(), tmp_path / "model")
    assert latentjac.load(folder, size=16).sample_shape == (16, 4, 4)
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({**weights, "bn.num_batches_tracked": torch.tensor(0.0)}, file)
    with pytest.raises(latentjac.LoadError, match=r"bn\.num_batches_tracked must be of int64, got torch\.float32"):
        latentjac.load(folder, size=16)
    save_file({**weights, "bn.running_var": torch.ones(16, dtype=torch.int64)}, file)
    with pytest.raises(latentjac.LoadError, match=r"bn\.running_var must be of a floating type, got torch\.int64"):
        latentjac.load(folder, size=16)


def test_a_prior_in_a_folder_gives_its_image_encoder(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    pipeline = build_kandinsky(tmp_path / "words", prior=True)
    folder = saved(pipeline, tmp_path / "model")
    expected, found = (
        latentjac.load(source).conditioning(guidance_scale=4.0, image_prompt=PHOTO) for source in (pipeline, folder)
    )
    assert found == expected
    shutil.rmtree(folder / "prior_prior")  # what makes embeddings of texts is not looked at
    assert latentjac.load(folder).conditioning(image_prompt=PHOTO) == expected.unguided()


SMALL = {
    "vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
ROTATED = {**SHARED, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
T5_LIKE = {"vocab_size": 30, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
# Name of the part, its class, the pipeline that has such a one, and its configuration.
ENCODERS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("text_encoder", "UMT5EncoderModel", "AuraFlowPipeline", T5_LIKE),
    ("text_encoder", "Gemma2Model", "SanaPipeline", SHARED),
    ("text_encoder", "GlmModel", "CogView4Pipeline", SHARED),
    ("text_encoder", "Qwen3Model", "ZImagePipeline", SHARED),
    ("text_encoder", "BertModel", "HunyuanDiTPipeline", SMALL),
    ("text_encoder", "Qwen2_5_VLForConditionalGeneration", "QwenImagePipeline",
     {"text_config": ROTATED, "vision_config": VISION, "image_token_id": 3, "video_token_id": 4}),
    ("image_encoder", "CLIPVisionModelWithProjection", "StableDiffusionPipeline",
     {**SMALL, "image_size": 8, "patch_size": 4, "projection_dim": 8}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "pipeline", "config"), ENCODERS, ids=[row[1] for row in ENCODERS])
def test_encoders_of_every_kind(tmp_path: Path, name: str, kind: str, pipeline: str, config: dict[str, Any]) -> None:
    """Weights are those of the object under the names that transformers gives them in files, as is what is computed."""
    made = getattr(transformers, kind)
    torch.manual_seed(0)
    expected = made(made.config_class(**config)).eval()
    expected.save_pretrained(tmp_path / name)
    found = EncoderFiles(tmp_path, pipeline, None, torch.float32).plan(name, kind, ())()
    assert not found.training
    weights, others = (dict(network.state_dict()) for network in (expected, found))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    buffers = dict(found.named_buffers())
    assert all(torch.equal(buffer, buffers[key]) for key, buffer in expected.named_buffers())
    if name == "text_encoder":
        words = torch.arange(5, 10)[None]
        outputs = [
            network(input_ids=words, output_hidden_states=True).hidden_states[-1] for network in (expected, found)
        ]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    with pytest.raises(latentjac.LoadError, match=rf"{name} of a DiTPipeline must be of \[\] .* got {kind}"):
        EncoderFiles(tmp_path, "DiTPipeline", None, torch.float32).plan(name, kind, ())


def test_frequencies_of_positions_keep_their_type(tmp_path: Path) -> None:
    made = transformers.Gemma2Model(transformers.Gemma2Config(**SHARED)).eval()
    made.save_pretrained(tmp_path / "text_encoder")
    found = EncoderFiles(tmp_path, "SanaPipeline", None, torch.bfloat16).plan("text_encoder", "Gemma2Model", ())()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.rotary_emb.inv_freq, made.rotary_emb.inv_freq)


def test_a_family_with_further_parts(pixart: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a family names is read for its encoder of prompts, of whatever library, and nothing else has to be given."""
    held: dict[str, Any] = {}

    def make_text(parts: Any, settings: Any) -> Any:
        held.update(parts)
        return adapters.PIXART.make_text(parts, settings)

    further = ("image_encoder", "image_processor", "image_normalizer", "noising_scheduler", "missing")
    family = dataclasses.replace(adapters.PIXART, allows=further, make_text=make_text)
    monkeypatch.setattr(pipeline, "FAMILIES", (family,))
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=8, patch_size=4)
    transformers.CLIPVisionModel(vision).save_pretrained(folder / "image_encoder")
    transformers.CLIPImageProcessor(size={"shortest_edge": 8}).save_pretrained(folder / "image_processor")
    DDPMScheduler(num_train_timesteps=7).save_pretrained(folder / "noising_scheduler")
    normalizer = StableUnCLIPImageNormalizer(8)
    torch.nn.init.constant_(normalizer.std, 3.0)
    normalizer.save_pretrained(folder / "image_normalizer")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "StableUnCLIPImg2ImgPipeline",  # whose image_encoder is of another class
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
        "image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"],
        "noising_scheduler": ["diffusers", "DDPMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(latentjac.LoadError, match=r"must be of \['CLIPVisionModelWithProjection'\] .*, got CLIP"):
        latentjac.load(folder)
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    index["image_encoder"][1] = "CLIPVisionModelWithProjection"
    other = {**index, "image_normalizer": ["stable_audio", "StableAudioProjectionModel"]}
    (folder / "model_index.json").write_text(json.dumps(other))
    with pytest.raises(
        latentjac.LoadError, match="image_normalizer must be of diffusers or transformers, got 'stable_a"
    ):
        latentjac.load(folder)
    (folder / "model_index.json").write_text(json.dumps(index))
    assert latentjac.load(folder).conditioning("a cat") == latentjac.load(pixart).conditioning("a cat")
    assert held["image_encoder"].config.image_size == 8
    assert held["image_processor"].size["shortest_edge"] == 8
    assert held["image_normalizer"].std.unique().tolist() == [3.0]
    assert held["noising_scheduler"].config.num_train_timesteps == 7
    assert {"transformer", "vae", "scheduler", "tokenizer", "text_encoder"} <= held.keys()


def test_weights_with_two_names_are_read_under_either(folder: Path) -> None:
    file = folder / "text_encoder/model.safetensors"
    expected = latentjac.load(folder).conditioning("a cat")
    weights = load_file(file)
    table = weights.pop("shared.weight")
    for names in (("encoder.embed_tokens.weight",), ("encoder.embed_tokens.weight", "shared.weight")):
        save_file(weights | {name: table.clone() for name in names}, file)
        assert latentjac.load(folder).conditioning("a cat") == expected
    save_file(weights, file)
    with pytest.raises(latentjac.LoadError, match=r"text_encoder/model\.safetensors' without encoder\.embed_tokens"):
        latentjac.load(folder)


def test_weights_of_a_decoder_are_left_out(folder: Path) -> None:
    """As in files of the whole of T5."""
    file = folder / "text_encoder/model.safetensors"
    save_file({**load_file(file), "decoder.block.0.layer.0.SelfAttention.k.weight": torch.ones(3)}, file)
    assert latentjac.load(folder).conditioning("a cat")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_of_weights(folder: Path, dtype: torch.dtype) -> None:
    """T5 overflows in float16, so transformers keeps the second half of its feed-forward layers in float32."""
    for source in (folder, build_pixart()):
        model = latentjac.load(source, dtype=dtype)
        types = {name: tensor.dtype for name, tensor in model.text.encoder.named_parameters()}
        kept = {name for name in types if name.endswith(".wo.weight")}
        assert kept
        assert {types[name] for name in kept} == {torch.float32 if dtype == torch.float16 else dtype}
        assert {found for name, found in types.items() if name not in kept} == {dtype}


@pytest.mark.parametrize("build", [build_stable_diffusion, build_sdxl])
def test_an_encoder_has_the_type_of_the_network_of_an_object(build: Any, tmp_path: Path) -> None:
    model = latentjac.load(build(tmp_path), dtype={"network": torch.float64, "autoencoder": torch.float32})
    assert {tensor.dtype for tensor in model.text.encoder.parameters()} == {torch.float64}
    assert next(model.codec.autoencoder.parameters()).dtype == torch.float32
    assert model.conditioning("a cat")["text"].dtype == torch.float64
    latentjac.load(build(tmp_path), dtype={"autoencoder": torch.float64})  # the others as they are


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    (T5, {"d_model": 10**9}, "d_model must be .*MOST_CHANNELS"),
    (T5, {"d_ff": -1}, "d_ff must be .*MOST_CHANNELS"),
    (T5, {"d_kv": "8"}, "d_kv must be .*MOST_CHANNELS"),
    (T5, {"num_heads": 0}, "num_heads must be .*MOST_CHANNELS"),
    (T5, {"num_layers": 10**6}, "num_layers must be .*MOST_LAYERS"),
    (T5, {"vocab_size": 10**9}, "vocab_size must be .*MOST_TOKENS"),
    (T5, {"relative_attention_num_buckets": 10**9}, "relative_attention_num_buckets must be .*MOST_TOKENS"),
    (T5, {"feed_forward_proj": "odd-odd-odd"}, "must be the configuration of a network"),
    (T5, {"layer_norm_epsilon": 0}, "layer_norm_epsilon must be a positive"),
    (T5, {"task_specific_params": {"a": {"b": 10**12}}}, "task_specific_params must be a value of usual size"),
    (T5, {"text_config": {"hidden_size": 10**9}}, "text_config: hidden_size must be"),
    (T5, {"d_ff": 2**16, "d_model": 2**16, "d_kv": 2**16, "num_layers": 100}, "shape|must fit"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": -5}, "model_max_length must be a number from 2"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": "12"}, "model_max_length must be a number from 2"),
    ("tokenizer/tokenizer.json", {"model": {"type": "Odd"}}, "tokenizer' must hold a T5Tokenizer"),
]


@pytest.mark.parametrize(("file", "change", "message"), CONFIGS, ids=[str(row[1])[:40] for row in CONFIGS])
def test_values_that_cannot_be(folder: Path, monkeypatch, file: str, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **change}))
    expensive: list[str] = []
    monkeypatch.setattr("latentjac.models.weights.read_tensors", lambda *args: expensive.append("weights"))
    with pytest.raises(latentjac.LoadError, match=message) as caught:
        latentjac.load(folder)
    assert file.split("/")[0] in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not expensive


def test_places_in_a_configuration_are_not_visited(folder: Path) -> None:
    expected = latentjac.load(folder).conditioning("a cat")
    places = {
        "_name_or_path": "someone/model",
        "auto_map": {"AutoModel": "someone/code--model.Model"},
        "attn_implementation": "kernels-community/flash-attn",
        "_attn_implementation": "kernels-community/flash-attn",
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
        "transformers_weights": "../../other.bin",
    }
    config = json.loads((folder / T5).read_text())
    (folder / T5).write_text(json.dumps({**config, **places}))
    adapter = {"base_model_name_or_path": "someone/model", "peft_type": "LORA"}
    (folder / "text_encoder/adapter_config.json").write_text(json.dumps(adapter))
    words = folder / "tokenizer/tokenizer_config.json"
    places = {"name_or_path": "someone/model", "auto_map": {"AutoTokenizer": ["a--b.C", None]}}
    words.write_text(json.dumps(json.loads(words.read_text()) | places))
    assert latentjac.load(folder).conditioning("a cat") == expected
    (folder / "text_encoder/adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(latentjac.LoadError, match=r"no weights of adapters \(LoRA\), got .*text_encoder/adapter_model"):
        latentjac.load(folder)


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("text_encoder", ["evil_module", "T5EncoderModel"], "text_encoder must be of transformers, got 'evil_module'"),
        ("text_encoder", ["diffusers", "T5EncoderModel"], "text_encoder must be of transformers, got 'diffusers'"),
        ("text_encoder", ["transformers", "BertModel"], "with T5EncoderModel and T5Tokenizer"),
        ("tokenizer", ["transformers", "../../T5Tokenizer"], "with T5EncoderModel and T5Tokenizer"),
        ("tokenizer", ["T5Tokenizer", "T5Tokenizer"], "tokenizer must be of transformers"),
    ],
)
def test_classes_from_elsewhere(folder: Path, name: str, entry: Any, message: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, name: entry}))
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(folder)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("UMT5EncoderModel", r"text_encoder_3 of a StableDiffusion3Pipeline must be of \['T5EncoderModel'\]"),
        ("T5Config", "text_encoder_3 must be an encoder, a tokenizer or a processor of pictures of .*, got 'T5Config'"),
        ("Odd", "text_encoder_3 must be an encoder"),
    ],
)
def test_classes_of_parts_that_a_pipeline_can_do_without(tmp_path: Path, kind: str, message: str) -> None:
    (tmp_path / "words").mkdir()
    folder = saved(build_stable_diffusion_3(tmp_path / "words", t5=True), tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "text_encoder_3": ["transformers", kind]}))
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(folder)


@pytest.mark.parametrize(
    ("held", "variant", "hint"),
    [
        ("model.fp16.safetensors", None, "there are weights of fp16: give variant='fp16'"),
        ("model.safetensors.index.bf16.json", None, "give variant='bf16'"),
        ("pytorch_model.bin", None, r"pickled weights \(.bin\) are never read: .* save_pretrained"),
        ("pytorch_model-00001-of-00002.bin", None, "pickled weights"),
        ("other.safetensors", None, r"got no '.*text_encoder/model\.safetensors'$"),
    ],
)
def test_other_weights_than_those_that_are_looked_for(folder: Path, held: str, variant: Any, hint: str) -> None:
    (folder / "text_encoder/model.safetensors").rename(folder / "text_encoder" / held)
    with pytest.raises(latentjac.LoadError, match=hint):
        latentjac.load(folder, variant=variant)


def test_a_variant(tmp_path: Path) -> None:
    pipeline = build_pixart()
    folder = saved(pipeline, tmp_path / "model", variant="fp16")
    assert latentjac.load(folder, variant="fp16").conditioning("a cat") == latentjac.load(pipeline).conditioning(
        "a cat"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_are_finite(folder: Path, value: float) -> None:
    file = folder / "text_encoder/model.safetensors"
    weights = load_file(file)
    weights["encoder.block.1.layer.1.DenseReluDense.wo.weight"][0, 0] = value
    save_file(weights, file)
    with pytest.raises(latentjac.LoadError, match=r"finite, got NaN or Inf in encoder\.block\.1\..*\.wo\.weight"):
        latentjac.load(folder)


def test_more_words_than_the_encoder_knows(folder: Path) -> None:
    file = folder / "tokenizer/tokenizer.json"
    words = json.loads(file.read_text())
    words["model"]["vocab"].append(["cats", -3.0])
    file.write_text(json.dumps(words))
    with pytest.raises(latentjac.LoadError, match=r"tokenizer' must hold at most vocab_size = 30 words, .* got 31"):
        latentjac.load(folder)


def test_words_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = folder / "tokenizer"
    os.mkfifo(words / "added_tokens.json")
    with pytest.raises(latentjac.LoadError, match=r"added_tokens\.json"):
        latentjac.load(folder)
    (words / "added_tokens.json").unlink()
    monkeypatch.setattr(text_files, "LARGEST_TOKENIZER", 100)
    with pytest.raises(latentjac.LoadError, match=r"tokenizer\.json' must have at most 100 bytes"):
        latentjac.load(folder)
    monkeypatch.undo()
    (words / "tokenizer.json").unlink()
    with pytest.raises(latentjac.LoadError, match=r"must hold words of a tokenizer in one of \['tokenizer\.json'"):
        latentjac.load(folder)
    (words / "spiece.model").write_bytes(b"\x0a\x03abc")
    with pytest.raises(latentjac.LoadError, match=r"must hold a T5Tokenizer, .*pip install sentencepiece protobuf"):
        latentjac.load(folder)
