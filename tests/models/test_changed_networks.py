"""A model whose network was changed after its first basis gives what a fresh load of the changed network gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import AttnProcessor
from networks import build_scheduler, build_shallow_unet, point_at, rand

import latentjac

Change = Callable[[UNet2DModel], object]


def adapters(network: UNet2DModel) -> list[Any]:
    tuners = pytest.importorskip("peft.tuners.tuners_utils")
    return [module for module in network.modules() if isinstance(module, tuners.BaseTunerLayer)]


def lora(strength: float) -> Change:
    def change(network: UNet2DModel) -> None:
        peft = pytest.importorskip("peft")
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
        peft.inject_adapter_in_model(config, network)
        network.double().eval().requires_grad_(False)
        for adapter in adapters(network):
            adapter.set_scale("default", strength)

    return change


def weights(network: UNet2DModel) -> None:
    for parameter in network.parameters():
        parameter.data.mul_(0.8)


CHANGES: dict[str, Change] = {
    "weights": weights,
    "hook": lambda n: n.mid_block.register_forward_hook(lambda module, inputs, output: 2 * output),
    "attribute": lambda n: setattr(n.mid_block.resnets[0], "output_scale_factor", 3.0),
    "processor": lambda n: setattr(n.mid_block.attentions[0], "processor", Halved()),
    "lora": lora(1.0),
    "weak lora": lora(0.3),
}


class Halved(AttnProcessor):
    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
        return 0.5 * super().__call__(*args, **kwargs)


@pytest.fixture
def model() -> latentjac.Model:
    return latentjac.load(build_shallow_unet().double(), build_scheduler())


@pytest.fixture
def point() -> latentjac.Point:
    return point_at(rand(1, 3, 8, 8))


def fresh(network: UNet2DModel) -> latentjac.Model:
    return latentjac.load(copy.deepcopy(network), build_scheduler())


# How a change is seen does not depend on the layer: the prediction meets one of each kind, of values and of modules.
@pytest.mark.parametrize(("change", "layer"), [*((c, "mid") for c in CHANGES), ("weights", "x0"), ("weak lora", "x0")])
def test_a_change_counts_at_once(change: str, layer: str, model: latentjac.Model, point: latentjac.Point) -> None:
    identity, before = model.identity(), latentjac.local_basis(model, point, 2, layer)
    CHANGES[change](model.network)
    expected = fresh(model.network)
    after = latentjac.local_basis(model, point, 2, layer)
    torch.testing.assert_close(after.s, latentjac.local_basis(expected, point, 2, layer).s, rtol=1e-5, atol=0)
    assert not torch.allclose(after.s, before.s, rtol=1e-4)
    assert model.identity() != identity
    assert model.identity() == expected.identity()


def test_strengths_of_an_adapter(model: latentjac.Model, point: latentjac.Point) -> None:
    network, found, identities = model.network, {}, set()
    lora(1.0)(network)
    for name, change in {
        "full": lambda adapter: None,
        "half": lambda adapter: adapter.set_scale("default", 0.5),
        "off": lambda adapter: adapter.enable_adapters(False),
        "on": lambda adapter: adapter.enable_adapters(True),
        "fused": lambda adapter: adapter.merge(),
        "not fused": lambda adapter: adapter.unmerge(),
    }.items():
        for adapter in adapters(network):
            change(adapter)
        found[name] = latentjac.local_basis(model, point, 2).s
        again = latentjac.local_basis(fresh(network), point, 2).s
        torch.testing.assert_close(found[name], again, rtol=1e-5, atol=0)
        identities.add(model.identity())
    torch.testing.assert_close(found["half"], found["fused"], rtol=1e-5, atol=0)
    assert len({tuple(s.tolist()) for s in found.values()}) >= 3
    assert len(identities) >= 4


def test_training_mode_is_refused(model: latentjac.Model, point: latentjac.Point) -> None:
    latentjac.local_basis(model, point, 1)
    model.network.mid_block.train()
    for call in (
        lambda: latentjac.local_basis(model, point, 1),
        lambda: latentjac.sample(model, point),
        lambda: latentjac.invert(model, rand(1, 3, 8, 8).sigmoid(), 5),
    ):
        with pytest.raises(ValueError, match=r"evaluation mode.*got training mode in its module 'mid_block'"):
            call()
    model.network.eval()
    latentjac.local_basis(model, point, 1)


def test_identities_of_plain_networks_do_not_depend_on_the_process_or_on_what_was_run(
    model: latentjac.Model, point: latentjac.Point
) -> None:
    before = model.identity()
    latentjac.local_basis(model, point, 1)
    assert model.identity() == before == fresh(model.network).identity()
    handle = model.network.mid_block.register_forward_hook(lambda module, inputs, output: None)
    assert model.identity() != before
    handle.remove()
    assert model.identity() == before


def test_networks_that_torch_compiles_keep_the_names_of_their_layers(point: latentjac.Point) -> None:
    network = build_shallow_unet().double()
    plain = latentjac.load(copy.deepcopy(network), build_scheduler())
    expected = latentjac.local_basis(plain, point, 2).s
    wrapped = latentjac.load(torch.compile(network), build_scheduler())
    torch.testing.assert_close(latentjac.local_basis(wrapped, point, 2).s, expected)
    assert wrapped.identity() == plain.identity()
