"""Functions that write to their own tensors: in one trace where that is plain, and right in any case."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from linearization.functions import rand
from torch import nn
from torch.nn import functional as F
from truth import check_network, close, dense_jacobian

from latentjac import linearize

Tensor = torch.Tensor
MATRIX = rand(4, 4, seed=9)
CONVOLUTION = nn.Conv2d(1, 2, 3, padding=1).double()


def on_a_product(x: Tensor) -> Tensor:
    h = x @ MATRIX
    h += x
    return F.leaky_relu(h, inplace=True)


def behind_a_convolution(x: Tensor) -> Tensor:
    h = CONVOLUTION(x[:, None, None])
    h += 1
    return F.silu(h, inplace=True)


def into_a_buffer(x: Tensor) -> Tensor:
    h = torch.zeros(len(x), 6, dtype=x.dtype)
    h[:, :4] = x.sin()
    h[:, 4] = x[:, 0] ** 2
    h[:, ::2] *= x[:, :3]
    return h * h


def under_a_mask(x: Tensor) -> Tensor:
    h = x.clone()
    h[x.detach() > 0] = 2.0
    h[:, 1:3].mul_(x[:, 1:3])
    return h


def of_two_names(x: Tensor) -> Tensor:
    h = x.sin()
    same = h
    same += 1
    return h * same


def in_another_dtype(x: Tensor) -> Tensor:
    h = x.float().sin()
    h += x
    return h.double()


def with_sums(x: Tensor) -> Tensor:
    h = x.sin()
    h.index_add_(1, torch.tensor([1, 1]), x[:, :2])
    return h.scatter_add_(1, torch.zeros(len(x), 1, dtype=torch.long), x[:, 1:2])


def after_dropping_nothing(x: Tensor) -> Tensor:
    return F.dropout(x.sin(), 0.5, training=False).mul_(x)


def after_a_copy(x: Tensor) -> Tensor:
    h = x.flip(-1).contiguous()
    h.detach_()
    return h * x


PLAIN = {
    f.__name__: f
    for f in (
        *(on_a_product, behind_a_convolution, into_a_buffer, of_two_names, with_sums),
        *(after_dropping_nothing, after_a_copy),
    )
}


@pytest.mark.parametrize("f", PLAIN.values(), ids=PLAIN)
def test_plain_writes_are_traced_once(f: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export.ExportedProgram, "run_decompositions")
    check_network(f, rand(2, 4))


def test_places_that_depend_on_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export.ExportedProgram, "run_decompositions")
    x, v = rand(2, 4), rand(3, 2, 4, seed=2)
    lin = linearize(under_a_mask, x, backend="program")
    assert torch.equal(lin.y, under_a_mask(x))
    jacobian = torch.autograd.functional.jacobian(under_a_mask, x).reshape(8, 8)
    close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T)
    close(lin.vjp(v).flatten(1), v.flatten(1) @ jacobian)


def test_what_is_written_becomes_what_it_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export.ExportedProgram, "run_decompositions")
    x = rand(2, 4)
    lin = linearize(in_another_dtype, x, backend="program")
    v = rand(3, 2, 4, seed=2)
    assert torch.equal(lin.y, in_another_dtype(x))
    close(lin.jvp(v).flatten(1), v.flatten(1) @ dense_jacobian(in_another_dtype, x).T, 1e-6)


def by_a_view_from_before(x: Tensor) -> Tensor:
    h = x * 2
    view = h[:, 1:]
    h.add_(x)
    return view * h[:, :1]


def through_another_shape(x: Tensor) -> Tensor:
    h = x.sin()
    h.view(-1, 2)[0] = 0
    return h * x


def by_the_whole_from_before(x: Tensor) -> Tensor:
    h = x.sin()
    part = h[:, :2]
    part.add_(x[:, 2:])
    h[:, 2:].add_(part)
    return h + torch.cat([part, part], 1)


OTHERS = {f.__name__: f for f in (by_a_view_from_before, through_another_shape, by_the_whole_from_before)}


@pytest.mark.parametrize("f", OTHERS.values(), ids=OTHERS)
def test_whatever_else_sees_what_is_written(f: Callable) -> None:
    check_network(f, rand(1, 4))


def what_dropout_returned(x: Tensor) -> Tensor:
    h = x.sin()
    same = F.dropout(h, 0.5, training=False)
    same.mul_(x)
    return same + h


def test_memory_that_a_schema_does_not_tell_of() -> None:
    x, v = rand(1, 4), rand(3, 1, 4, seed=2)
    lin = linearize(what_dropout_returned, x)
    assert torch.equal(lin.y, what_dropout_returned(x))
    close(lin.jvp(v).flatten(1), v.flatten(1) @ dense_jacobian(what_dropout_returned, x).T)


def test_writing_to_the_input_or_to_weights_is_refused() -> None:
    def to_the_input(x: Tensor) -> Tensor:
        return x.mul_(2)

    def to_weights(x: Tensor) -> Tensor:
        view = MATRIX[:, :2]
        view.add_(0.0)
        return x @ view

    for f in (to_the_input, to_weights):
        with pytest.raises(RuntimeError, match=r"writes to|is mutated"):
            linearize(f, rand(1, 4), backend="program")
