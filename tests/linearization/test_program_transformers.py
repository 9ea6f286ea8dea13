"""Diffusion transformers against torch.func, in float64."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    Transformer2DModel,
    WanTransformer3DModel,
)
from networks import rand, randomize
from truth import check_network as check

Tensor = torch.Tensor


def test_dit() -> None:
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=2, sample_size=8, num_embeds_ada_norm=5
    )
    net = randomize(net)
    label = torch.tensor([1, 2])
    check(lambda x, t: net(x, t, class_labels=label).sample, rand(2, 3, 8, 8), torch.tensor([3, 4]))


def test_pixart() -> None:
    net = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        num_layers=2,
        sample_size=8,
        cross_attention_dim=16,
        caption_channels=6,
        use_additional_conditions=False,
    )
    net = randomize(net)

    def f(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        added = {"resolution": None, "aspect_ratio": None}
        return net(x, encoder_hidden_states=text, timestep=t, added_cond_kwargs=added).sample

    check(f, rand(1, 3, 8, 8), torch.tensor([3]), rand(1, 5, 6))


@pytest.mark.parametrize("norm", [None, "rms_norm"])
def test_sd3(norm: str | None) -> None:
    net = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=6,
        caption_projection_dim=16,
        pooled_projection_dim=5,
        out_channels=4,
        pos_embed_max_size=8,
        qk_norm=norm,
    )
    net = randomize(net)
    f = lambda x, t, text, pooled: net(x, text, pooled, t).sample  # noqa: E731
    # These RMS norms take their mean square in float32.
    tolerance = 1e-10 if norm is None else 1e-6
    check(f, rand(1, 4, 8, 8), torch.tensor([300]), rand(1, 5, 6), rand(1, 5), tolerance=tolerance)


def test_flux() -> None:
    net = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=6,
        pooled_projection_dim=5,
        axes_dims_rope=(2, 2, 4),
    )
    net = randomize(net)
    places, words = torch.zeros(9, 3, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.float64)
    places[:, 1:] = torch.cartesian_prod(torch.arange(3), torch.arange(3))

    def f(x: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        return net(x, text, pooled, t, img_ids=places, txt_ids=words).sample

    # Rotations pass through float32.
    check(f, rand(1, 9, 4), torch.tensor([0.5], dtype=torch.float64), rand(1, 5, 6), rand(1, 5), tolerance=1e-6)


@pytest.mark.parametrize("activation", ["geglu", "geglu-approximate", "swiglu", "gelu", "gelu-approximate"])
def test_blocks_of_unets(activation: str) -> None:
    net = Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=8,
        num_layers=1,
        cross_attention_dim=6,
        norm_num_groups=4,
        activation_fn=activation,
    )
    net = randomize(net)
    f = lambda x, text: net(x, encoder_hidden_states=text).sample  # noqa: E731
    lin = check(f, rand(1, 8, 4, 4), rand(1, 5, 6))
    assert ("gated (" in lin.program.describe()) == (activation in ("geglu", "geglu-approximate", "swiglu"))


def test_sana() -> None:
    net = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=6,
        sample_size=4,
        patch_size=1,
    )
    net = randomize(net)
    lin = check(
        # Linear attention and RMS norms pass through float32.
        lambda x, t, text: net(x, text, t).sample,
        rand(1, 4, 4, 4),
        torch.tensor([300]),
        rand(1, 5, 6),
        tolerance=1e-5,
    )
    assert "gated (silu)" in lin.program.describe()


def test_wan() -> None:
    net = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=6,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        rope_max_seq_len=16,
    )
    net = randomize(net)
    f = lambda x, t, text: net(x, t, text).sample  # noqa: E731
    # Its layer norms are in float32.
    check(f, rand(1, 4, 2, 4, 4), torch.tensor([300]), rand(1, 5, 6), tolerance=1e-5)


def test_qwen() -> None:
    net = QwenImageTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=6,
        axes_dims_rope=(2, 2, 4),
    )
    net = randomize(net)

    def f(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        seen = torch.ones(1, 5, dtype=torch.long)
        return net(
            x, encoder_hidden_states=text, encoder_hidden_states_mask=seen, timestep=t, img_shapes=[(1, 3, 3)]
        ).sample

    # Rotations, by complex numbers, pass through float32.
    check(f, rand(1, 9, 4), torch.tensor([0.5], dtype=torch.float64), rand(1, 5, 6), tolerance=1e-5)
