"""The iteration of Park et al. (NeurIPS 2023), as its authors computed it, with what PyTorch offers.

    V <- orthonormal rows, random
    repeat:  U = J V^T by forward mode, in chunks of probes;  W = U^T J by reverse mode, one probe after the other;
             _, S^2, V = svd(W)

What stops forward mode in today's PyTorch (fused attention, norms of channels-last inputs) is made to work, and the
feature map runs without what lies behind it. The authors' stopping rule is left out: time is measured per iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from latentjac.linearization.autodiff import differentiable

Tensor = torch.Tensor


def iterate(f: Callable[[Tensor], Tensor], x: Tensor, k: int, chunk: int = 25, seed: int = 0) -> Iterator[Tensor]:
    """Right singular vectors ``[k, n]`` after each iteration.

    Args:
        f: Feature map of one point.
        x: The point, ``[1, ...]``.
        k: Vectors.
        chunk: Probes of one forward-mode call.
        seed: Of the start.
    """
    generator = torch.Generator().manual_seed(seed)
    v = torch.linalg.qr(torch.randn(x.numel(), k, generator=generator))[0].T.to(x)
    while True:
        with differentiable():
            parts = [_forward_mode(f, x, probes.reshape(-1, *x.shape)) for probes in v.split(chunk)]
            u = torch.cat(parts)
            w = torch.stack([_reverse_mode(f, x, probe) for probe in u])
        v = torch.linalg.svd(w.flatten(1).float(), full_matrices=False).Vh.to(x.dtype)
        yield v


def _forward_mode(f: Callable[[Tensor], Tensor], x: Tensor, probes: Tensor) -> Tensor:
    def shifted(a: Tensor) -> Tensor:
        return f(x + torch.tensordot(a, probes, 1))

    columns = torch.func.jacfwd(shifted)(x.new_zeros(len(probes)))
    return columns.movedim(-1, 0)


def _reverse_mode(f: Callable[[Tensor], Tensor], x: Tensor, u: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        return torch.autograd.grad((f(leaf) * u).sum(), leaf)[0]
