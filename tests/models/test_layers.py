"""Taps by module name."""

from __future__ import annotations

import ast
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import FluxTransformer2DModel
from networks import build_scheduler, build_shallow_unet, build_tiny_unet, rand

import latentjac
from latentjac.models.layers import TEXT_FIRST, Tap, injected

T = torch.tensor(300)


def test_taps_return_what_the_module_returned(tiny_model, tiny_point) -> None:
    seen = {}
    modules = {"mid": "mid_block", "down_blocks.1": "down_blocks.1", "up_blocks.0.resnets.1": "up_blocks.0.resnets.1"}
    for name, module in modules.items():
        handle = tiny_model.network.get_submodule(module).register_forward_hook(
            lambda m, i, o, name=name: seen.__setitem__(name, o[0] if isinstance(o, tuple) else o)
        )
        tiny_model.network(tiny_point.sample, T)
        handle.remove()
        assert torch.equal(tiny_model.feature_map(name)(tiny_point.sample, T), seen[name])


def test_nothing_behind_a_tap_runs(tiny_model, tiny_point) -> None:
    ran = []
    handle = tiny_model.network.up_blocks[0].register_forward_hook(lambda *a: ran.append(1))
    tiny_model.feature_map("mid")(tiny_point.sample, T)
    handle.remove()
    assert not ran


def test_hooks_are_gone_after_an_error(tiny_model) -> None:
    with pytest.raises(RuntimeError):
        tiny_model.feature_map("mid")(torch.zeros(1, 2, 16, 16, dtype=torch.float64), T)
    assert not tiny_model.network.mid_block._forward_hooks


def test_outputs(tiny_model, tiny_point) -> None:
    x = tiny_point.sample
    eps, clean = tiny_model.feature_map("eps")(x, T), tiny_model.feature_map("x0")(x, T)
    a = tiny_model.scheduler.alphas_cumprod.double()[300]
    torch.testing.assert_close(a.sqrt() * clean + (1 - a).sqrt() * eps, x)


@pytest.mark.parametrize("layer", ["eps", "x0"])
def test_predictions_can_be_differentiated(tiny_model, tiny_point, layer: str) -> None:
    x, v = tiny_point.sample, torch.randn(tiny_point.sample.shape, dtype=torch.float64)
    lin = tiny_model.linearization(layer, x, T)
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(tiny_model, layer)(x, T), x, v)
    torch.testing.assert_close(gradient, lin.vjp(v[None])[0])


def test_a_mask_that_fits_no_feature_is_refused(tiny_model, tiny_point) -> None:
    features = tiny_model.feature_map("mid")(tiny_point.sample, T)
    fitting, other = torch.ones(features.shape[-1]).double(), torch.ones(features.shape[-1] + 1).double()
    masked = tiny_model.linearization("mid", tiny_point.sample, T, mask=fitting / 2)
    torch.testing.assert_close(masked.y, features / 2)
    with pytest.raises(ValueError, match=r"linearization: mask must broadcast to features \[1, "):
        tiny_model.linearization("mid", tiny_point.sample, T, mask=other)


@pytest.mark.parametrize(("wrong", "near"), [("middle_block", "mid_block"), ("down_block.1", "down_blocks.1")])
def test_unknown_names_suggest_the_nearest(tiny_model, wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=near):
        tiny_model.feature_map(wrong)


def test_a_far_off_name_lists_the_blocks(tiny_model) -> None:
    with pytest.raises(ValueError, match="down_blocks"):
        tiny_model.feature_map("zzzzzz")


def test_traces_are_kept() -> None:
    model, x = latentjac.load(build_shallow_unet().double(), build_scheduler()), rand(1, 3, 8, 8)
    engine = model.linearization("mid", x, T).engine
    again = model.linearization("mid_block", 2 * x, T)
    assert again.engine is engine
    torch.testing.assert_close(again.x, 2 * x)
    del again
    for layer in ("eps", "x0", "conv_in", "down_blocks.0", "down_blocks.0.resnets.0"):
        model.linearization(layer, x, T)
    assert model.linearization("mid", x, T).engine is not engine


def test_changed_weights_are_traced_again(own_model, tiny_point) -> None:
    v = torch.randn(2, *tiny_point.sample.shape, dtype=torch.float64)
    before = own_model.linearization("mid", tiny_point.sample, T).jvp(v)
    own_model.network.load_state_dict(build_tiny_unet(seed=9).double().state_dict())
    after = own_model.linearization("mid", tiny_point.sample, T).jvp(v)
    oracle = own_model.linearization("mid", tiny_point.sample, T, backend="autodiff").jvp(v)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, oracle)


def test_exact_names_win_over_aliases() -> None:
    from latentjac.models import resolve_layer

    network = torch.nn.ModuleDict({"mid": torch.nn.Linear(2, 2)})
    assert resolve_layer(network, "mid", {"mid": "other"}) == "mid"


def test_a_module_has_all_names_that_it_is_registered_under() -> None:
    from latentjac.models import resolve_layer

    shared = torch.nn.Linear(2, 2)
    network = torch.nn.ModuleDict({"down": shared, "up": torch.nn.Sequential(shared)})
    assert [resolve_layer(network, name) for name in ("down", "up.0")] == ["down", "up.0"]


class Twice(torch.nn.Module):
    """Runs one module two times, which returns its output in a tuple."""

    class Inner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return 2 * x, "beside"

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once, beside = self.inner(x)
        assert beside == "beside"
        return self.inner(once)[0]


def test_a_module_that_runs_twice_is_changed_at_its_first_run() -> None:
    network, x = Twice(), torch.ones(1, 2)
    with injected(network, "inner", torch.ones(1, 2)):
        for _ in range(2):
            assert torch.equal(network(x), 2 * (2 * x + 1))
    assert torch.equal(network(x), 4 * x)


def test_rows_of_an_offset_are_repeated_for_a_batch_of_several_times_their_number() -> None:
    """As guidance evaluates it: all samples under one conditioning, then all under another."""
    network, x = Twice(), torch.arange(12.0).view(6, 2)
    offset = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    with injected(network, "inner", offset):
        assert torch.equal(network(x), 2 * (2 * x + torch.cat([offset, offset])))
        with pytest.raises(ValueError, match="'inner' must return a multiple of 3 rows, got 4"):
            network(x[:4])


def test_a_module_without_a_tensor_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Identity())
    with injected(network, "0", torch.ones(1)), pytest.raises(ValueError, match=r"'0' must return a tensor.*got str"):
        network("text")


def test_layers_side_by_side_are_one_feature_map(tiny_model, tiny_point) -> None:
    x, t, names = tiny_point.sample, torch.tensor(tiny_point.timestep), ("mid", "mid_block.resnets.0")
    maps = [tiny_model.feature_map(name) for name in names]
    features = tiny_model.feature_map("+".join(names))(x, t)
    torch.testing.assert_close(features, torch.cat([f(x, t).flatten(1) for f in maps], dim=1), rtol=0, atol=0)
    assert tiny_model.resolve_layer("+".join(names)) == "mid_block+mid_block.resnets.0"
    dense = torch.cat([torch.func.jacrev(lambda z, f=f: f(z, t).flatten())(x).reshape(-1, x.numel()) for f in maps])
    basis = latentjac.local_basis(tiny_model, tiny_point, k=2, layer="+".join(names), tol=1e-6)
    torch.testing.assert_close(basis.s.flatten(), torch.linalg.svdvals(dense)[:2], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("layer", "join"), [("mid+mid_block", "mid_block"), ("mid+x0", "x0"), ("x0+eps", "eps")])
def test_layers_that_cannot_be_joined(tiny_model, layer: str, join: str) -> None:
    with pytest.raises(ValueError, match=rf"layer must join different modules, got .*{join}"):
        tiny_model.resolve_layer(layer)


def test_nothing_is_added_to_several_layers_at_once() -> None:
    with pytest.raises(ValueError, match="layer must be a module"):
        latentjac.editing.HSpace(layer="mid+up_blocks.0")


def test_all_blocks_of_diffusers_that_return_text_first_are_known() -> None:
    found = set()
    for file in (Path(diffusers.__file__).parent / "models").rglob("*.py"):
        for part in ast.walk(ast.parse(file.read_text())):
            if isinstance(part, ast.ClassDef) and any(
                "encoder_hidden_states, hidden_states" == r for r in _returned(part)
            ):
                found.add(part.name)
    assert found <= TEXT_FIRST
    assert {"JointTransformerBlock", "FluxTransformerBlock"} <= found


def _returned(part: ast.ClassDef) -> list[str]:
    forward = next((f for f in part.body if isinstance(f, ast.FunctionDef) and f.name == "forward"), None)
    returns = [] if forward is None else [node for node in ast.walk(forward) if isinstance(node, ast.Return)]
    return [ast.unparse(r.value).strip("()") for r in returns if r.value is not None]


@pytest.mark.parametrize("layer", ["transformer_blocks.0", "single_transformer_blocks.0"])
def test_joint_blocks_are_tapped_and_added_to_in_the_stream_of_the_picture(layer: str) -> None:
    torch.manual_seed(0)
    net = FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=6, pooled_projection_dim=5, axes_dims_rope=(2, 2, 4),
    ).eval().requires_grad_(False)  # fmt: skip
    given = {
        "encoder_hidden_states": rand(1, 3, 6).float(), "pooled_projections": rand(1, 5).float(),
        "timestep": torch.tensor([0.5]), "img_ids": torch.zeros(9, 3), "txt_ids": torch.zeros(3, 3),
    }  # fmt: skip
    x = rand(1, 9, 4).float()
    features = Tap(net, layer)(x, **given)
    assert features.shape == (1, 9, 16)  # tokens of the picture, not the 3 of the text
    seen: list = []
    with injected(net, layer, torch.ones_like(features)):
        kept = net.get_submodule(layer).register_forward_hook(lambda m, i, output: seen.append(output))
        net(x, **given)
        kept.remove()
    torch.testing.assert_close(seen[0][1], features + 1)
    assert seen[0][0].shape == (1, 3, 16)
