"""Diffusion transformers against torch.func, in float64."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
)
from networks import rand, randomize

from latentjac.linearize import AutodiffLinearization, ProgramLinearization

Tensor = torch.Tensor


def check(f, x: Tensor, *constants: Tensor, tolerance: float = 1e-10) -> None:
    lin, truth = ProgramLinearization(f, x, *constants), AutodiffLinearization(f, x, *constants)
    assert "without a rule" not in lin.program.describe()
    v, u = rand(2, *x.shape, seed=2), rand(2, *lin.y.shape, seed=3)
    for mine, theirs in ((lin.y, truth.y), (lin.jvp(v), truth.jvp(v)), (lin.vjp(u), truth.vjp(u))):
        assert theirs.norm() > 1e-6
        assert (mine - theirs).norm() < tolerance * theirs.norm()
    assert lin.check_adjoint() < tolerance


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
