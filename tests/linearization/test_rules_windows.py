"""Pooling and transposed convolutions against dense float64 Jacobians."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks import rand
from torch import nn
from truth import check, fallbacks

from latentjac.linearization.autodiff import AutodiffLinearization
from latentjac.linearization.compiled import ProgramLinearization

TRANSPOSED_CONVOLUTIONS = {
    "plain": dict(),
    "doubling": dict(kernel_size=4, stride=2, padding=1),
    "output padding": dict(stride=2, padding=1, output_padding=1),
    "output padding wider than the stride": dict(stride=1, dilation=3, output_padding=2),
    "groups": dict(stride=2, groups=2),
    "dilation": dict(dilation=2, padding=2),
    "uneven": dict(kernel_size=(2, 3), stride=(2, 1), padding=(0, 2), output_padding=(1, 0)),
    "no bias": dict(bias=False),
}


@pytest.mark.parametrize("options", TRANSPOSED_CONVOLUTIONS.values(), ids=TRANSPOSED_CONVOLUTIONS.keys())
def test_transposed_convolution(options: dict) -> None:
    torch.manual_seed(0)
    net = nn.ConvTranspose2d(4, 6, **{"kernel_size": 3, **options}).double()
    check(net, rand(2, 4, 4, 3))


def test_transposed_convolutions_of_other_dimensions() -> None:
    torch.manual_seed(0)
    check(nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, output_padding=1).double(), rand(2, 4, 5))
    check(nn.ConvTranspose3d(2, 4, 2, stride=2, groups=2).double(), rand(2, 2, 2, 3, 2))
    w, kernel = rand(2, 2, 3), rand(2, 2, 2)
    check(lambda z: F.conv_transpose1d(z, w), rand(2, 5), fallback=True)  # without a batch
    check(lambda z: F.conv_transpose2d(z[:, :1], z.new_zeros(1, 2, 2, 2) + kernel), rand(2, 4, 3, 3))


def test_transposed_convolution_in_single_precision() -> None:
    torch.manual_seed(0)
    f = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, 4, 3, padding=1)).requires_grad_(False)
    x = rand(2, 4, 5, 4).float()
    lin, truth = ProgramLinearization(f, x), AutodiffLinearization(f, x)
    assert not fallbacks(lin)
    v, u = rand(3, *x.shape, seed=2).float(), rand(3, *lin.y.shape, seed=3).float()
    torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lin.vjp(u), truth.vjp(u), rtol=1e-5, atol=1e-5)


FILTERS = rand(4, 3, 1, 1)
POOLS = {
    "maximum": lambda z: F.max_pool2d(z, 2),
    "overlapping maxima": lambda z: F.max_pool2d(z, 3, stride=1, padding=1),
    "dilated maxima": lambda z: F.max_pool2d(z, 2, stride=2, dilation=2, ceil_mode=True),
    "maximum of its own places": lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
    "adaptive maximum": lambda z: F.adaptive_max_pool2d(z, (3, 2)),
    "maximum 1d": lambda z: F.max_pool1d(z.flatten(2), 3, stride=2),
    "maximum 3d": lambda z: F.max_pool3d(z.unsqueeze(1), 2, stride=1),
    "adaptive maximum 1d": lambda z: F.adaptive_max_pool1d(z.flatten(2), 5),
    "adaptive maximum 3d": lambda z: F.adaptive_max_pool3d(z.unsqueeze(1), (2, 3, 2)),
    "behind a convolution": lambda z: F.max_pool2d(F.conv2d(z, FILTERS), 2) + F.avg_pool2d(z, 2).sum(1, True),
    "average 1d": lambda z: F.avg_pool1d(z.flatten(2), 4, stride=2),
    "average 3d": lambda z: F.avg_pool3d(z.unsqueeze(1), 2),
    "adaptive average 1d": lambda z: F.adaptive_avg_pool1d(z.flatten(2), 5),
    "adaptive average to one": lambda z: nn.AdaptiveAvgPool2d(1)(z),
}


@pytest.mark.parametrize("f", POOLS.values(), ids=POOLS.keys())
def test_pooling(f: Callable) -> None:
    check(f, rand(2, 3, 6, 4))
