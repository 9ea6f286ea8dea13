"""The outcome of edits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image

from latentjac.arguments import check_int, shown
from latentjac.editing.diagnostics import Along
from latentjac.editing.predicted import Predicted
from latentjac.editing.walk import Way
from latentjac.geometry.linearity import Linearity
from latentjac.notebooks import Displayed
from latentjac.shaped import Shaped
from latentjac.solvers import Status

if TYPE_CHECKING:
    from latentjac.editing.methods.method import Method


@dataclass(frozen=True, repr=False)
class Walked(Shaped):
    """What a method hands back: clean samples, and how it came to them.

    Attributes:
        samples: Clean samples ``[directions, distances, C, H, W]``.
        points: Noisy samples that they were made from, shaped like ``samples``.
        directions: The unit directions that were followed from the point on, ``[q, ...]``; with a mask these are
            the given ones after null-space projection.
        distances: Signed distances, in the unit of the method.
        num_steps: Steps of every walk.
        layer: Feature map that ``along`` measures, or that was injected into.
        linearity: How far the network is linear along each direction at the point, to the sides of the distances; None
            without diagnostics.
        along: Lengths and linearity along the walks; None without diagnostics.
        way: Noisy samples on the way, at 16 equal parts of every walk and at the distances; None with ``HSpace``, where
            the sample does not move, and with methods that keep none. :func:`latentjac.editing.walk_frames` makes
            pictures of it.
        gains: With ``Guidance`` and others of its kind, the factor of the noise difference at every step of the walk
            that a distance lies on, ``[num_steps, directions, distances]``; with composed directions ``[num_steps,
            directions, 1]``, as the next two.
        retained: With ``Geodesic``, the energy of each direction that the new tangent space holds, at every step.
        overlaps: With ``Guidance(reestimate=...)``, ``|<v, v'>|`` of old and new directions at every look-up.
        predicted: What the network predicted on the ways down; :func:`latentjac.editing.walk_frames` tells from it what
            will be predicted between them. None with ``HSpace``, with methods of published code, and beyond 256 MiB.
    """

    samples: torch.Tensor
    points: torch.Tensor
    directions: torch.Tensor
    distances: tuple[float, ...]
    num_steps: int
    layer: str
    linearity: tuple[Linearity, ...] | None = None
    along: Along | None = None
    way: Way | None = None
    gains: torch.Tensor | None = None
    retained: torch.Tensor | None = None
    overlaps: torch.Tensor | None = None
    predicted: Predicted | None = field(default=None, repr=False)


@dataclass(frozen=True, repr=False, kw_only=True)
class Edit(Displayed, Walked):
    """Edited images, one for every pair of a direction and a distance, directions outermost.

    Composed directions make one image, as of one direction and one distance. Further attributes are those of
    :class:`latentjac.editing.result.Walked`.

    Attributes:
        images: ``images[i * samples.shape[1] + j]`` is direction i at distance j; of videos the middle frame, and empty
            where samples are no pictures. :func:`latentjac.diffusion.render` makes whole videos, or sound, of samples.
        method: How it was edited, with all options.
        leakage: With a mask, RMS change of the decoded pixels outside it over that inside, ``[directions, distances]``;
            infinite where nothing changed inside. Without a codec, of the samples.
        residual: With a photo, what was added to every picture, ``[C, H, W]`` in the range of pictures from 0 to 1.
        status: How the bases ended that the edit is built on, the worst of them; None if it is built on none.
        unmoved: With a mask or a photo, what was predicted on the way down of the point itself.

    Example:
        >>> edit = latentjac.edit(model, point, basis.v[0], [-1.0, 1.0])
        >>> less, more = edit.images
        >>> edit.samples.shape[:2]  # directions, distances
        torch.Size([1, 2])
    """

    images: list[Image.Image]
    method: Method
    leakage: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    status: Status | None = None
    unmoved: Predicted | None = field(default=None, repr=False)

    @property
    def unit(self) -> str:
        """Unit of the distances: noise or features at the point, or what else the method counts in."""
        return self.method.unit

    @property
    def composed(self) -> bool:
        """Whether all directions were followed at once, each with its own distance."""
        return self.samples.shape[1] != len(self.distances)

    def image(self, direction: int, distance: int) -> Image.Image:
        """The image of one direction and one distance, both by index; negative ones count from the last.

        Raises:
            TypeError: If an index is not an int.
            ValueError: If there is no such direction or distance.
        """
        rows, columns = self.samples.shape[:2]
        for name, index, count in (("direction", direction, rows), ("distance", distance, columns)):
            number = check_int("image", name, index)
            if not -count <= number < count:
                raise ValueError(f"image: {name} must be an index of {count} of them, got {shown(number)}")
        if not self.images:
            raise ValueError(f"image: samples must be pictures or videos, got {list(self.samples.shape[2:])} without")
        return self.images[direction % rows * columns + distance % columns]
