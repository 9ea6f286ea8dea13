"""A function that has changed since it was traced is noticed: new values, or a refusal, never a mixture."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from networks import rand
from torch import nn

from latentjac import linearize
from latentjac.linearization.changes import Stamp, ours, structure

Tensor = torch.Tensor


class Net(nn.Module):
    """Every kind of weight and setting: convolutions, norms, linear layers, a buffer, attributes, a strategy object."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Linear(4, 3)
        self.register_buffer("shift", torch.ones(4, 1, 1))
        self.scale, self.rates, self.process = 1.0, {"adapter": 0.5}, Process(1.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.process(self.norm(self.conv(x)) + self.shift)
        return self.out(h.flatten(2).transpose(1, 2)) * (self.scale + self.rates["adapter"])


class Process:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, h: Tensor) -> Tensor:
        return torch.nn.functional.silu(h) * self.power


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def replace(net: Net) -> None:
    net.conv.weight = nn.Parameter(net.conv.weight * 1.5)


def data_in_place(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data.mul_(0.8)


def data_replaced(net: Net) -> None:
    net.conv.weight.data = net.conv.weight.data * 0.8


def one_entry(net: Net) -> None:
    net.conv.weight.data[1, 2, 1, 1] += 0.05


@torch.no_grad()
def in_place(net: Net) -> None:
    net.out.weight.mul_(2)


def numpy(net: Net) -> None:
    net.norm.weight.detach().numpy()[:] *= 3


CHANGES: dict[str, Callable[[Net], object]] = {
    "in place": in_place,
    "data": data_in_place,
    "data replaced": data_replaced,
    "one entry": one_entry,
    "sign": lambda net: net.out.weight.data.neg_(),
    "numpy": numpy,
    "replaced": replace,
    "state dict": lambda net: net.load_state_dict({k: v * 0.9 for k, v in net.state_dict().items()}),
    "buffer": lambda net: net.shift.data.fill_(0.5),
    "attribute": lambda net: setattr(net, "scale", 2.0),
    "nested attribute": lambda net: net.rates.update(adapter=1.0),
    "attribute of an object": lambda net: setattr(net.process, "power", 2.0),
    "object": lambda net: setattr(net, "process", torch.tanh),
    "module": lambda net: setattr(net, "norm", nn.Identity()),
    "hook": lambda net: net.norm.register_forward_hook(lambda module, inputs, output: 2 * output),
    "pre-hook": lambda net: net.out.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
    "hook that cuts": lambda net: net.register_forward_hook(lambda module, inputs, y: y.detach() + 0 * y),
    "parametrization": lambda net: nn.utils.parametrize.register_parametrization(net.out, "weight", Doubled()),
    "forward": lambda net: setattr(net, "forward", lambda x: Net.forward(net, x) ** 2),
}


def expected_products(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    v, u = rand(2, *x.shape, seed=3), rand(2, 1, 64, 3, seed=4)
    fresh = linearize(net, x, backend="autodiff")
    return fresh.jvp(v), fresh.vjp(u)


@pytest.fixture
def net() -> Net:
    return Net().double().requires_grad_(False)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_from_the_next_base_point_on(change: str, net: Net) -> None:
    x, v, u = rand(1, 4, 8, 8), rand(2, 1, 4, 8, 8, seed=3), rand(2, 1, 64, 3, seed=4)
    lin = linearize(net, x, backend="program")
    before = lin.jvp(v), lin.vjp(u)
    CHANGES[change](net)
    # Until then: the old products, or a refusal, but not one of both.
    try:
        torch.testing.assert_close((lin.jvp(v), lin.vjp(u)), before, rtol=1e-12, atol=1e-12)
    except RuntimeError as error:
        assert "written to since: call rebase" in str(error)  # noqa: PT017
    lin.rebase(x)
    after = expected_products(net, x)
    assert (after[0] - before[0]).abs().max() > 1e-4, "a change that shows"
    torch.testing.assert_close((lin.jvp(v), lin.vjp(u)), after, rtol=1e-9, atol=1e-11)


def test_a_module_that_nothing_changed_keeps_its_trace(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    lin = linearize(net, rand(1, 4, 8, 8), backend="program")
    monkeypatch.setattr(type(lin.engine), "trace", lambda *args: pytest.fail("traced again"))
    monkeypatch.setattr(type(lin.engine), "prepare_weights", lambda *args: pytest.fail("prepared again"))
    for seed in range(5):
        lin.rebase(rand(1, 4, 8, 8, seed=seed) * 10.0 ** (seed - 2))


def test_written_weights_are_read_again_without_a_new_trace(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rand(1, 4, 8, 8)
    lin = linearize(net, x, backend="program")
    monkeypatch.setattr(type(lin.engine), "trace", lambda *args: pytest.fail("traced again"))
    for change in (in_place, one_entry, data_in_place):
        change(net)
        lin.rebase(x)
        torch.testing.assert_close(lin.jvp(rand(2, *x.shape, seed=3)), expected_products(net, x)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_changes_of_networks_in_short_numbers(dtype: torch.dtype) -> None:
    net = Net().to(dtype).requires_grad_(False)
    x = rand(1, 4, 8, 8).to(dtype)
    lin = linearize(net, x, backend="program")
    y = lin.y.clone()
    net.norm.weight.data.mul_(1.06 if dtype == torch.bfloat16 else 1.0005)
    lin.rebase(x)
    assert not torch.equal(lin.y, y)


def test_a_failed_rebase_leaves_the_base_point(net: Net) -> None:
    x, v = rand(1, 4, 8, 8), rand(2, 1, 4, 8, 8, seed=3)
    lin = linearize(lambda z, c: net(z) / c, x, torch.ones(1).double(), backend="program")
    before = lin.jvp(v)
    for constant in (torch.zeros(1).double(), torch.zeros(64, 3).double()):
        with pytest.raises(ValueError, match="rebase: f must be finite"):
            lin.rebase(x + 1, constant)
        torch.testing.assert_close(lin.jvp(v), before)
        assert torch.equal(lin.x, x)


@pytest.mark.parametrize("backend", ["program", "autodiff"])
def test_constants_belong_to_the_linearization(backend: str) -> None:
    x, c = rand(1, 5), rand(5, seed=1)
    lin = linearize(lambda z, c: z * c, x, c, backend=backend)
    before = lin.jvp(torch.ones(1, 1, 5).double())
    c.zero_()
    assert torch.equal(lin.jvp(torch.ones(1, 1, 5).double()), before)
    lin.rebase(x + 1)
    assert torch.equal(lin.jvp(torch.ones(1, 1, 5).double()), before)


class Counting(nn.Module):
    """Counts its calls, and keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls, self.last = nn.Linear(5, 5), 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.layer(x)
        return torch.tanh(self.last)


@pytest.mark.parametrize("backend", ["auto", "autodiff"])
def test_functions_that_change_their_own_settings(backend: str) -> None:
    net = Counting().double().requires_grad_(False)
    lin = linearize(net, rand(1, 5), backend=backend)
    for seed in range(2):
        x = rand(1, 5, seed=seed)
        lin.rebase(x)
        v = rand(2, 1, 5, seed=7)
        expected = torch.stack([torch.func.jvp(net, (x,), (one,))[1] for one in v])
        torch.testing.assert_close(lin.jvp(v), expected)


def test_random_functions_are_refused() -> None:
    with pytest.raises(ValueError, match="f must give the same value whenever it is called"):
        linearize(nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5)).double(), rand(1, 6))


@pytest.mark.parametrize("backend", ["program", "autodiff"])
def test_another_linearization_of_the_same_trace_moves_alone(backend: str, net: Net) -> None:
    x, v = rand(1, 4, 8, 8), rand(2, 1, 4, 8, 8, seed=3)
    lin = linearize(net, x, backend=backend)
    before = lin.jvp(v)
    others = [lin.at(2 * x), copy.copy(lin), copy.deepcopy(lin)]
    for other in others[1:]:
        torch.testing.assert_close(other.jvp(v), before)
        other.rebase(2 * x)
    torch.testing.assert_close(lin.jvp(v), before)
    for other in others:
        torch.testing.assert_close(other.jvp(v), expected_products(net, 2 * x)[0])


def test_linearizations_are_not_sent_to_other_processes(net: Net) -> None:
    with pytest.raises(TypeError, match="pickle must not be used, since traces belong to one process"):
        pickle.dumps(linearize(net, rand(1, 4, 8, 8)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("x",), TypeError, "x must be a torch.Tensor, got str"),
        ((rand(1, 5), 1.0), ValueError, "constants must be 2 values or none, got 1"),
        ((rand(1, 5), "c", 2.0), TypeError, r"constants\[0\] must be of type Tensor, got str"),
        ((rand(1, 5), rand(5), None), TypeError, r"constants\[1\] must be of type float, got NoneType"),
        ((rand(1, 5), rand(5).to("meta"), 1.0), ValueError, r"constants\[0\] must be on cpu, got meta"),
        ((rand(1, 5).to("meta"),), ValueError, "x must be on cpu, got meta"),
    ],
)
def test_what_cannot_follow_is_refused(arguments: tuple, error: type[Exception], message: str) -> None:
    lin = linearize(lambda z, c, power: (z * c) * power, rand(1, 5), rand(5), 2.0)
    for method in ("rebase", "at"):
        with pytest.raises(error, match=f"{method}: {message}"):
            getattr(lin, method)(*arguments)


def test_stamps_and_structures_are_steady(net: Net) -> None:
    stamp, before = Stamp(net.parameters()), structure([net])
    net(rand(1, 4, 8, 8))
    assert stamp.holds()
    assert structure([net]) == before
    net.out.weight.data[0, 0] = float("nan")
    assert not stamp.holds()
    assert Stamp(net.parameters()).holds(), "NaN are equal to themselves"


def test_hooks_of_taps_in_other_threads_are_no_change() -> None:
    net = Net()
    before = structure([net])
    handle = net.conv.register_forward_hook(ours(lambda *args: None))
    assert structure([net]) == before
    handle.remove()
    net.conv.register_forward_hook(lambda *args: None)
    assert structure([net]) != before
