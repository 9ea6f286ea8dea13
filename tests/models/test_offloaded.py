"""Networks that are offloaded, cast at each call, quantized, cached or compiled: right, or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, FirstBlockCacheConfig
from diffusers.models.attention_processor import AttnProcessor, SlicedAttnProcessor
from networks import build_scheduler, build_shallow_unet, point_at, rand
from pipelines import build_flux
from truth import dense_jacobian

import latentjac

Change = Callable[[Any], object]


def pipeline() -> DDIMPipeline:
    return DDIMPipeline(build_shallow_unet().double(), build_scheduler())


def offloaded(made: Any) -> None:
    pytest.importorskip("accelerate").cpu_offload(made.unet, execution_device=torch.device("cpu"))


def offloaded_as_a_whole(made: Any) -> None:
    pytest.importorskip("accelerate").cpu_offload_with_hook(made.unet, execution_device=torch.device("cpu"))


def by_groups(made: Any) -> None:
    here = torch.device("cpu")
    made.unet.enable_group_offload(onload_device=here, offload_device=here, offload_type="leaf_level")


class Linear4bit(torch.nn.Linear):
    """Its name is that of a quantized layer of bitsandbytes."""


class Packed(torch.nn.Parameter):
    """A kind of weights, as quantizers have their own."""


def attention(made: Any) -> Any:
    return made.unet.mid_block.attentions[0]


def quantized(made: Any) -> None:
    attention(made).to_q.__class__ = Linear4bit


def packed(made: Any) -> None:
    layer = attention(made).to_q
    layer.weight = Packed(layer.weight.detach(), requires_grad=False)


REFUSED: dict[str, tuple[Change, str]] = {
    "sequential offload": (offloaded, r"hooks of accelerate \(AlignDevicesHook.*remove_all_hooks\(\)"),
    "offload": (offloaded_as_a_whole, r"hooks of accelerate \(CpuOffload\) in it.*remove_all_hooks\(\)"),
    "groups": (by_groups, r"hooks of diffusers \(.*group_offloading.*\) in its module 'conv_in'"),
    "casting": (
        lambda made: made.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32),
        r"hooks of diffusers \(layerwise_casting\) in its module .*without that",
    ),
    "float8": (
        lambda made: made.unet.mid_block.to(torch.float8_e4m3fn),
        r"got weight of Parameter in torch\.float8_e4m3fn in its module 'mid_block.*dequantize\(\)",
    ),
    "quantized": (quantized, r"a quantized layer in its module 'mid_block\.attentions\.0\.to_q', a Linear4bit.*dequan"),
    "packed": (packed, r"got weight of Packed in torch\.float64"),
    "meta": (lambda made: made.unet.conv_out.to("meta"), "without memory in its module 'conv_out'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_plain_weights_are_refused_with_the_way_out(name: str) -> None:
    change, message = REFUSED[name]
    made = pipeline()
    change(made)
    with pytest.raises(
        latentjac.LoadError, match=rf"load: UNet2DModel must have plain weights on one device, .*{message}"
    ):
        latentjac.load(made)
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(made.unet, build_scheduler())


def test_caches_of_features_are_refused_and_can_be_turned_off(tmp_path: Path) -> None:
    made = build_flux(tmp_path)
    made.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(latentjac.LoadError, match=r"hooks of diffusers \(.*\) .*network\.disable_cache\(\)"):
        latentjac.load(made, size=16)
    made.transformer.disable_cache()
    latentjac.load(made, size=16)


def test_what_the_message_of_offloading_says_works() -> None:
    made = pipeline()
    expected = latentjac.local_basis(latentjac.load(copy.deepcopy(made)), point(), 2).s
    offloaded(made)
    made.remove_all_hooks()
    torch.testing.assert_close(latentjac.local_basis(latentjac.load(made), point(), 2).s, expected)


def test_registries_without_hooks_that_runs_of_pipelines_leave_behind_change_nothing(tmp_path: Path) -> None:
    made = build_flux(tmp_path)
    before = latentjac.load(made, size=16).identity()
    with made.transformer.cache_context("cond"):
        pass
    assert hasattr(made.transformer, "_diffusers_hook")
    assert latentjac.load(made, size=16).identity() == before


def point() -> latentjac.Point:
    return point_at(rand(1, 3, 8, 8))


def compiled(made: Any) -> None:
    made.unet = torch.compile(made.unet)


def parallel(made: Any) -> None:
    made.unet = torch.nn.DataParallel(torch.compile(made.unet))


ALLOWED: dict[str, Change] = {
    "compiled": compiled,
    "parallel": parallel,
    "compiled in place": lambda made: made.unet.compile(backend="eager"),
    "checkpointing": lambda made: made.unet.enable_gradient_checkpointing(),
    "other processor": lambda made: attention(made).set_processor(AttnProcessor()),
    "sliced": lambda made: attention(made).set_processor(SlicedAttnProcessor(1)),
    "fused": lambda made: attention(made).fuse_projections(),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_others_have_the_right_jacobian(name: str) -> None:
    made, plain = pipeline(), pipeline().unet
    ALLOWED[name](made)
    model, here = latentjac.load(made), point()

    def mid(x: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        handle = plain.mid_block.register_forward_hook(lambda module, inputs, output: found.append(output))
        plain(x, torch.tensor(here.timestep))
        handle.remove()
        return found[0]

    _, s, vt = torch.linalg.svd(dense_jacobian(mid, here.sample), full_matrices=False)
    basis = latentjac.local_basis(model, here, 3, tol=1e-7)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-6, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-6


def test_what_wraps_a_network_alone_is_taken_off() -> None:
    network = build_shallow_unet()
    expected = latentjac.load(network, build_scheduler()).identity()
    for wrapped in (torch.nn.DataParallel(network), torch.compile(network)):
        model = latentjac.load(wrapped, build_scheduler())
        assert model.network is network
        assert model.identity() == expected
