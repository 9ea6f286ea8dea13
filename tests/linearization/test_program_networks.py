"""Whole networks of diffusers against torch.func, in float64."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from networks import build_text_unet, rand, randomize
from torch import nn
from truth import check_network as check
from truth import close

from latentjac import linearize
from latentjac.linearization import AutodiffLinearization, ProgramLinearization
from latentjac.linearization.rules.attention import Attention
from latentjac.linearization.rules.fallback import Fallback

Tensor = torch.Tensor


def unet(down: str, up: str, **options: object) -> nn.Module:
    defaults = dict(sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4)
    return randomize(
        UNet2DModel(
            down_block_types=(down, down if down.startswith("K") else "AttnDownBlock2D"),
            up_block_types=(up, up),
            **{**defaults, "attention_head_dim": 4, **options},
        )
    )


UNETS = {
    "plain": ("DownBlock2D", "UpBlock2D", {}),
    "attention": ("AttnDownBlock2D", "AttnUpBlock2D", {}),
    "resnet up and down": ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", {}),
    "resampling by resnets": ("DownBlock2D", "UpBlock2D", {"downsample_type": "resnet", "upsample_type": "resnet"}),
    "scale and shift by time": ("DownBlock2D", "UpBlock2D", {"resnet_time_scale_shift": "scale_shift"}),
    "no padding": ("DownBlock2D", "UpBlock2D", {"downsample_padding": 0}),
    "averages down": ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", {"resnet_time_scale_shift": "scale_shift"}),
    "no attention in the middle": ("DownBlock2D", "UpBlock2D", {"add_attention": False}),
    "classes": ("DownBlock2D", "UpBlock2D", {"num_class_embeds": 5}),
    "mish": ("DownBlock2D", "UpBlock2D", {"act_fn": "mish"}),
    "resampling with fixed filters": ("KDownBlock2D", "KUpBlock2D", {"block_out_channels": (32, 64)}),
}


@pytest.mark.parametrize(("down", "up", "options"), UNETS.values(), ids=UNETS.keys())
def test_unet(down: str, up: str, options: dict) -> None:
    net = unet(down, up, **options)
    labels = {"class_labels": torch.tensor([3, 4])} if "num_class_embeds" in options else {}
    check(lambda x, t: net(x, t, **labels).sample, rand(2, 3, 8, 8), torch.tensor(500))


def test_unet_with_skips_of_its_own() -> None:
    net = UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"),
        up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=8,
    )
    net = randomize(net).float()  # its filters are float32 constants
    f = lambda x, t: net(x, t).sample  # noqa: E731
    x, t = rand(1, 3, 16, 16).float(), torch.tensor(500)
    lin, truth = ProgramLinearization(f, x, t), AutodiffLinearization(f, x, t)
    v, u = rand(2, *x.shape, seed=2).float(), rand(2, *x.shape, seed=3).float()
    torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lin.vjp(u), truth.vjp(u), rtol=1e-3, atol=1e-4)
    assert not any(type(i) is Fallback for i in lin.program.instructions)


TEXT_UNETS = {
    "convolutions around attention": {},
    "linear layers around attention": {"use_linear_projection": True},
    "attention to the text alone": {"only_cross_attention": True},
    "two layers": {"transformer_layers_per_block": 2},
    "simple cross-attention": {
        "down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    },
    "scale and shift by time": {"resnet_time_scale_shift": "scale_shift"},
}


@pytest.mark.parametrize("options", TEXT_UNETS.values(), ids=TEXT_UNETS.keys())
def test_unet_with_text(options: dict) -> None:
    net = randomize(build_text_unet(**options))
    check(lambda x, t, text: net(x, t, text).sample, rand(1, 4, 8, 8), torch.tensor(500), rand(1, 5, 6))


def test_unet_with_added_conditions() -> None:
    sizes = {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 4 * 6 + 5}
    net = randomize(build_text_unet(addition_embed_type="text_time", **sizes))

    def f(x: Tensor, t: Tensor, text: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
        return net(x, t, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample

    sizes = torch.tensor([[8.0, 8, 0, 0, 8, 8]], dtype=torch.float64)
    check(f, rand(1, 4, 8, 8), torch.tensor(20), rand(1, 5, 6), rand(1, 5), sizes)


def test_decoder() -> None:
    net = randomize(
        AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        )
    )
    check(lambda z: net.decode(z).sample, rand(1, 4, 4, 4))


def test_taps_leave_nothing_behind_them() -> None:
    net = unet("DownBlock2D", "UpBlock2D")

    def f(x: Tensor, t: Tensor) -> Tensor:
        box: list[Tensor] = []
        handle = net.mid_block.register_forward_hook(lambda module, inputs, output: box.append(output))
        net(x, t)
        handle.remove()
        return box[0]

    lin = check(f, rand(2, 3, 8, 8), torch.tensor(500))
    assert not any("upsample" in call.target for i in lin.program.instructions for call in i.calls)


def test_one_trace_serves_all_times_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = randomize(build_text_unet())
    f = lambda x, t, text: net(x, t, text).sample  # noqa: E731
    lin = ProgramLinearization(f, rand(1, 4, 8, 8), torch.tensor(500), rand(1, 5, 6))
    monkeypatch.setattr(torch.export, "export", None)
    lin.rebase(rand(1, 4, 8, 8, seed=4), torch.tensor(30), rand(1, 5, 6, seed=5))
    truth = AutodiffLinearization(f, rand(1, 4, 8, 8, seed=4), torch.tensor(30), rand(1, 5, 6, seed=5))
    v = rand(2, 1, 4, 8, 8)
    close(lin.jvp(v), truth.jvp(v))


def test_functions_that_cannot_be_traced_fall_back(caplog: pytest.LogCaptureFixture) -> None:
    def f(x: Tensor) -> Tensor:
        return x.sin() if x.sum() > 0 else x.cos()

    lin = linearize(f, rand(1, 4))
    assert lin.backend == "autodiff"
    assert sum("slower" in record.getMessage() for record in caplog.records) == 1
    linearize(f, rand(1, 4))
    assert sum("slower" in record.getMessage() for record in caplog.records) == 1


def test_classic_attention_processors_become_one_instruction_each() -> None:
    net = randomize(build_text_unet(attention_head_dim=8)).double()
    x, constants = rand(1, 4, 8, 8), (torch.tensor(500), rand(1, 7, 6))
    kinds = []
    for processor, linearized in ((AttnProcessor2_0(), ProgramLinearization), (AttnProcessor(), check)):
        net.set_attn_processor(processor)
        lin = linearized(lambda z, t, text: net(z, t, text).sample, x, *constants)
        kinds.append(sum(isinstance(i, Attention) for i in lin.program.instructions))
    assert kinds[0] == kinds[1] > 0
