"""Jacobian products of live weights, inside of training steps, against torch.func."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from networks import rand
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latentjac.linearization import linearize

Tensor = torch.Tensor
Tangent = Callable[..., Tensor]
BACKENDS = ("program", "autodiff")


class Velocity(nn.Module):
    """The average velocity u(z, t, r) of MeanFlow (Geng et al. 2025), in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16).double(), nn.Linear(16, 4).double()
        self.norm = nn.LayerNorm(16).double()

    def forward(self, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return self.last(nn.functional.silu(self.norm(self.first(torch.cat([z, t, t - r], dim=1)))))


@pytest.fixture
def network() -> Velocity:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Velocity()


def batch(seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Base point (z, t, r) and the velocity v at it."""
    r, t = rand(5, 2, seed=seed).sigmoid().sort(dim=1).values.split(1, dim=1)
    return (rand(5, 4, seed=seed + 1), t, r), rand(5, 4, seed=seed + 2)


def direction(point: tuple[Tensor, ...], v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return v, torch.ones_like(point[1]), torch.zeros_like(point[2])


def oracle(f: Callable[..., Tensor], point: tuple[Tensor, ...], v: Tensor) -> Tensor:
    return torch.func.jvp(f, point, direction(point, v))[1].detach()


def ours(lin: Any, point: tuple[Tensor, ...], v: Tensor) -> Tensor:
    return lin.jvp(tuple(part[None] for part in direction(point, v)))[0]


def train(
    network: nn.Module, tangent: Tangent, steps: int = 4, after: Callable[[], None] = lambda: None
) -> list[float]:
    """Losses of MeanFlow, whose target has a tangent of the weights as they are in this step."""
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=0.05), []
    for step in range(steps):
        point, v = batch(10 * step)
        u = network(*point)
        target = v - (point[1] - point[2]) * tangent(point, v)
        loss = (u - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_linearization_goes_along_with_the_weights(network: Velocity, backend: str) -> None:
    reference = copy.deepcopy(network)
    kept: list[Any] = []

    def tangent(point: tuple[Tensor, ...], v: Tensor) -> Tensor:
        if kept:
            kept[0].rebase(point)
        else:
            kept.append(linearize(network, point, backend=backend))
        return ours(kept[0], point, v)

    assert train(network, tangent) == pytest.approx(train(reference, lambda *a: oracle(reference, *a)), rel=1e-12)
    assert kept[0].flat.backend == backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_of_weights_that_have_gone_on_are_refused(network: Velocity, backend: str) -> None:
    point, v = batch(0)
    lin = linearize(network, point, backend=backend)
    train(network, lambda *a: oracle(network, *a), steps=1)
    with pytest.raises(RuntimeError, match=r"jvp: .*(weights|modules).* written to since.*rebase"):
        ours(lin, point, v)
    lin.rebase(point)
    torch.testing.assert_close(ours(lin, point, v), oracle(network, point, v))


def test_an_average_of_the_weights_is_a_network_of_its_own(network: Velocity) -> None:
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    lin = linearize(average, batch(0)[0], backend="program")
    program = lin.flat.program

    def tangent(point: tuple[Tensor, ...], v: Tensor) -> Tensor:
        lin.rebase(point)
        torch.testing.assert_close(ours(lin, point, v), oracle(average, point, v))
        return oracle(network, point, v)

    train(network, tangent, after=lambda: average.update_parameters(network))
    point, v = batch(0)
    assert (oracle(average, point, v) - oracle(network, point, v)).abs().max() > 1e-3
    assert len(lin.flat.program.instructions) == len(program.instructions)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_networks_are_differentiated_as_written(network: Velocity, backend: str, in_place: bool) -> None:
    point, v = batch(0)
    plain = copy.deepcopy(network)
    if in_place:
        network.compile(backend="eager")
    compiled = network if in_place else torch.compile(network, backend="eager")
    torch.testing.assert_close(compiled(*point), plain(*point))
    lin = linearize(compiled, point, backend=backend)
    torch.testing.assert_close(ours(lin, point, v), oracle(plain, point, v))
    torch.testing.assert_close(compiled(*point), plain(*point))


def test_no_gradient_comes_out_of_products_or_gets_lost_beside_them(network: Velocity) -> None:
    point, v = batch(0)
    loss = network(*point).square().sum()
    with torch.no_grad():
        product = ours(linearize(network, point), point, v)
    assert not product.requires_grad
    (loss + 0 * product.sum()).backward()
    got = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    network.zero_grad()
    network(*point).square().sum().backward()
    expected = [weight.grad for weight in network.parameters()]
    assert len(got) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/rendezvous")
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("whole", [True, False], ids=["wrapped", "its module"])
def test_networks_in_ddp(group: None, network: Velocity, whole: bool) -> None:
    reference = copy.deepcopy(network)
    wrapped = nn.parallel.DistributedDataParallel(network)
    f = wrapped if whole else wrapped.module
    lin = linearize(f, batch(0)[0])
    assert lin.flat.backend == ("autodiff" if whole else "program")  # a trace of its bookkeeping is not to be had

    def tangent(point: tuple[Tensor, ...], v: Tensor) -> Tensor:
        lin.rebase(point)
        return ours(lin, point, v)

    assert train(wrapped, tangent) == pytest.approx(train(reference, lambda *a: oracle(reference, *a)), rel=1e-12)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_weights_in_shards_are_refused_by_name_and_stay_as_they_are(
    group: None, network: Velocity, backend: str
) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    point, v = batch(0)
    plain = copy.deepcopy(network)
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(network.first, mesh=mesh)
    fully_shard(network, mesh=mesh)
    with pytest.raises(TypeError, match=r"linearize: f must have whole weights, got '\w+\.weight' of .* as a DTensor"):
        linearize(lambda *a: network(*a), point, backend=backend)
    torch.testing.assert_close(network(*point), plain(*point))
    # The way that the message names.
    whole = Velocity()
    whole.load_state_dict(get_model_state_dict(network, options=StateDictOptions(full_state_dict=True)))
    torch.testing.assert_close(ours(linearize(whole, point), point, v), oracle(plain, point, v))
