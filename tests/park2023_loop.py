"""The formulas of Park et al.'s code (2023), written down straight from them, without latentjac's own layers."""

from __future__ import annotations

from itertools import pairwise

import torch

Tensor = torch.Tensor


class Park2023:
    """One denoiser with its schedule; images are one at a time ``[1, C, H, W]``.

    Args:
        network: Called as ``network(x, t).sample``.
        alphas: Signal power of every training timestep, ``[T]``.
        steps: Levels of the grid.
    """

    def __init__(self, network: torch.nn.Module, alphas: Tensor, steps: int) -> None:
        self.network, self.alphas = network, alphas
        self.times = torch.linspace(0, 1, steps) * 999

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t).sample

    def move(self, x: Tensor, eps: Tensor, t: Tensor, to: Tensor, noise: Tensor | None = None) -> Tensor:
        """From one time to another; with noise, eta = 1."""
        a, b = (float(self.alphas[int(torch.floor(u))]) for u in (t, to))
        predicted = (x - (1 - a) ** 0.5 * eps) / a**0.5
        if noise is None:
            return b**0.5 * predicted + (1 - b) ** 0.5 * eps
        sigma = ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
        return b**0.5 * predicted + (1 - b - sigma**2) ** 0.5 * eps + sigma * noise

    def invert(self, image: Tensor) -> Tensor:
        """All steps up but the last."""
        x = image
        for t, to in pairwise(self.times[:-1]):
            x = self.move(x, self.eps(x, t), t, to)
        return x

    def descend(self, x: Tensor, fraction: float) -> tuple[Tensor, int]:
        """From the noisiest time to the one nearest to a fraction of 1000; the sample and how many times lie below."""
        down = self.times.flip(0)
        stop = int((down - 1000 * fraction).abs().argmin())
        for t, to in pairwise(down[: stop + 1]):
            x = self.move(x, self.eps(x, t), t, to)
        return x, len(down) - 1 - stop

    def finish(self, x: Tensor, level: int, draw) -> Tensor:
        """To the image, with noise in every step that begins at or below the time nearest to 200."""
        noisy = int((self.times - 200).abs().argmin())
        for i in range(level, 0, -1):
            noise = draw(x) if i <= noisy else None
            x = self.move(x, self.eps(x, self.times[i]), self.times[i], self.times[i - 1], noise)
        return x

    def walk(self, x: Tensor, t: Tensor, v: Tensor, gain: float, steps: int) -> list[Tensor]:
        """Guided samples, every (steps + 1) // 4-th of them."""
        samples = [x]
        for _ in range(steps):
            x = x + gain * (self.eps(x + v, t) - self.eps(x, t))
            samples.append(x)
        return samples[:: (steps + 1) // 4]


def iterate(jacobian: Tensor, v: Tensor, tol: float, least: int = 10, most: int = 50) -> tuple[Tensor, ...]:
    """Left vectors (one iteration old, of any length), singular values and right vectors of a dense Jacobian.

    Args:
        jacobian: ``[m, n]``.
        v: Orthonormal start rows ``[k, n]``.
        tol: Most change of an entry of v at which it ends.
        least: It does not end at iterations up to this one, counted from 0.
        most: Iterations.
    """
    for i in range(most):
        before = v
        u = v @ jacobian.T
        _, s, v = torch.linalg.svd(u @ jacobian, full_matrices=False)
        if torch.allclose(before, v, atol=tol) and i > least:
            break
    return u, s.sqrt(), v
