"""How coarse or fine directions are as pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_number, check_tensor
from latentjac.public import public
from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class PowerSpectrum(Shaped):
    """Power of directions over rings of spatial frequency, float64, for directions ``[..., C, H, W]``.

    Frequencies are in cycles per pixel of the sample: 0 is a constant, 0.5 the finest stripes along an axis, 0.71 a
    chessboard.

    Attributes:
        frequencies: Middle of each ring, ``[m]``; rings are ``1 / max(H, W)`` wide.
        power: Part of the power in each ring, ``[..., m]``; sums to 1.
        density: Mean power of a coefficient in each ring over that of all coefficients, ``[..., m]``; 1 everywhere
            on average for white noise.
        centroid: Mean frequency, weighted with power, ``[...]``.
        below: Part of the power at frequencies up to the cutoff, ``[...]``.
        cutoff: That frequency.
    """

    frequencies: torch.Tensor
    power: torch.Tensor
    density: torch.Tensor
    centroid: torch.Tensor
    below: torch.Tensor
    cutoff: float

    @property
    def above(self) -> torch.Tensor:
        """Part of the power beyond the cutoff, ``[...]``."""
        return 1 - self.below


@public
def power_spectrum(directions: torch.Tensor, cutoff: float = 0.125) -> PowerSpectrum:
    """Radially averaged power spectral density of directions, such as ``basis.v``.

    ``|F v|^2`` with the two-dimensional discrete Fourier transform F, summed over channels and normalised, so that
    length and sign of a direction do not matter. No window is applied: edges that do not match across the border
    count as high frequencies. For a mean over samples give ``density`` or ``centroid`` to
    :func:`latentjac.geometry.sample_mean`.

    Args:
        directions: ``[..., C, H, W]``.
        cutoff: Frequency in (0, 0.71) cycles per pixel that separates coarse from fine.

    Raises:
        TypeError: If directions are not a tensor.
        ValueError: If they are no pictures, or one of them is zero, or the cutoff is out of range.
    """
    rows = check_tensor("power_spectrum", "directions", directions)
    if rows.ndim < 3 or rows.numel() == 0:
        raise ValueError(f"power_spectrum: directions must have shape [..., C, H, W], got {list(rows.shape)}")
    cutoff = check_number("power_spectrum", "cutoff", cutoff, 0, 0.71)
    height, width = rows.shape[-2:]
    coefficients = torch.fft.fft2(rows.double()).abs().square().sum(-3).flatten(-2)
    total = coefficients.sum(-1, keepdim=True)
    if not (total > 0).all():
        where = (total[..., 0] == 0).nonzero()[0].tolist()
        raise ValueError(f"power_spectrum: directions must not be zero, got zero at {where}")
    power = coefficients / total
    axes = [torch.fft.fftfreq(size, dtype=torch.float64, device=rows.device) for size in (height, width)]
    radius = torch.hypot(axes[0][:, None], axes[1][None]).flatten()
    finest = max(height, width)
    ring = (radius * finest).round().long()
    rings = torch.zeros(*power.shape[:-1], int(ring.max()) + 1, dtype=power.dtype, device=power.device)
    rings.index_add_(-1, ring, power)
    counts = torch.bincount(ring)
    return PowerSpectrum(
        torch.arange(len(counts), dtype=torch.float64, device=rows.device) / finest,
        rings,
        rings * (height * width) / counts,
        (power * radius).sum(-1),
        (power * (radius <= cutoff)).sum(-1),
        cutoff,
    )
