"""The outcome of edits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image

from latentjac.arguments import check_int, shown
from latentjac.editing.diagnostics import Along
from latentjac.editing.methods.method import Method
from latentjac.editing.walk import Way
from latentjac.geometry.linearity import Linearity
from latentjac.shaped import Shaped
from latentjac.solvers import Status


@dataclass(frozen=True, repr=False)
class Edit(Shaped):
    """Edited images, one for every pair of a direction and a distance, directions outermost.

    Composed directions make one image, as of one direction and one distance.

    Attributes:
        images: ``images[i * samples.shape[1] + j]`` is direction i at distance j.
        samples: Clean samples ``[directions, distances, C, H, W]``.
        points: Noisy samples that the images were made from, shaped like ``samples``.
        directions: The unit directions that were followed from the point on, ``[q, ...]``; with a mask these are
            the given ones after null-space projection.
        distances: Signed distances, in :attr:`unit`.
        num_steps: Steps of every walk.
        method: How it was edited, with all options.
        layer: Feature map that ``along`` measures, or that was injected into.
        linearity: How far the network is linear along each direction, at the point.
        along: Lengths and linearity along the walks.
        way: Noisy samples on the way, at up to 16 equal parts of every walk; None with ``HSpace``, where the sample
            does not move, and with methods that keep none. :func:`latentjac.editing.walk_frames` makes pictures of it.
        gains: With ``Guidance`` and others of its kind, the factor of the noise difference at every step, ``[num_steps,
            directions, distances]``; with composed directions ``[num_steps, directions, 1]``, as the next two.
        retained: With ``Geodesic``, the energy of each direction that the new tangent space holds, at every step.
        overlaps: With ``Guidance(reestimate=...)``, ``|<v, v'>|`` of old and new directions at every look-up.
        leakage: With a mask, RMS change of the decoded pixels outside it over that inside, ``[directions, distances]``;
            infinite where nothing changed inside.
        residual: With a photo, what was added to every picture, ``[C, H, W]`` in the range of pictures from 0 to 1.
        status: How the bases ended that the edit is built on, the worst of them; None if it is built on none.
    """

    images: list[Image.Image]
    samples: torch.Tensor
    points: torch.Tensor
    directions: torch.Tensor
    distances: tuple[float, ...]
    num_steps: int
    method: Method
    layer: str
    linearity: tuple[Linearity, ...]
    along: Along
    way: Way | None = None
    gains: torch.Tensor | None = None
    retained: torch.Tensor | None = None
    overlaps: torch.Tensor | None = None
    leakage: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    status: Status | None = None

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
        return self.images[direction % rows * columns + distance % columns]
