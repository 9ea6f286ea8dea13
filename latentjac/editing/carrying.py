"""How the direction of a slider comes to another photo or timestep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from latentjac.arguments import check_choice, check_int, check_number, check_text
from latentjac.diffusion import Point, linearization_at
from latentjac.edit_options import TOL, K
from latentjac.editing.arguments import set_checked
from latentjac.editing.word_directions import WORDS_KINDS, word_direction
from latentjac.geometry.local_basis import local_basis
from latentjac.geometry.transport import LARGEST_REGULARIZATION, METHODS, pull_back
from latentjac.models import Model
from latentjac.shaped import Shaped

if TYPE_CHECKING:
    from latentjac.editing.slider import Slider


@dataclass(frozen=True, repr=False)
class Carried(Shaped):
    """A direction at a point that it was carried to.

    Attributes:
        direction: Of the shape that the method of the slider takes.
        retained: What of it arrived there: the part of its energy in the new tangent space; None where nothing can be
            lost.
    """

    direction: torch.Tensor
    retained: float | None = None


@runtime_checkable
class Carry(Protocol):
    """A choice: a frozen dataclass of its own options."""

    def prepare(self, model: Model, point: Point, direction: torch.Tensor) -> torch.Tensor | None:
        """What has to be known of a direction ``[C, H, W]`` where a slider is made, or None."""
        ...

    def carry(self, model: Model, slider: Slider, points: Sequence[Point]) -> list[Carried]:
        """The direction of a slider at each point."""
        ...


@dataclass(frozen=True)
class AsIs:
    """The same direction everywhere; without a pass of the network, and for directions of any kind."""

    def prepare(self, model: Model, point: Point, direction: torch.Tensor) -> torch.Tensor | None:
        """Nothing."""
        return None

    def carry(self, model: Model, slider: Slider, points: Sequence[Point]) -> list[Carried]:
        """The direction itself."""
        return [Carried(slider.direction) for _ in points]


@dataclass(frozen=True, kw_only=True)
class Transported:
    """By way of the features of a layer (Park et al. 2023), see :func:`latentjac.geometry.pull_back`.

    Where the slider is made, the direction is pushed forward, ``u = J v / |J v|``; at a new point u is pulled back by
    the local basis there, which is computed for each.

    Attributes:
        layer: Feature map.
        k: Directions of every new basis.
        tol: Largest relative residual of those bases, in (0, 1).
        method: ``"park2023"`` or ``"pseudoinverse"``.
        regularization: For ``"pseudoinverse"``.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    layer: str = "mid"
    k: int = K
    tol: float = TOL
    method: str = "park2023"
    regularization: float = 0.0

    def __post_init__(self) -> None:
        name = "Transported"
        set_checked(
            self,
            layer=check_text(name, "layer", self.layer),
            k=check_int(name, "k", self.k, 1),
            tol=check_number(name, "tol", self.tol, 0, 1),
            method=check_choice(name, "method", self.method, METHODS),
            regularization=check_number(
                name, "regularization", self.regularization, 0, LARGEST_REGULARIZATION, least=True
            ),
        )

    def prepare(self, model: Model, point: Point, direction: torch.Tensor) -> torch.Tensor | None:
        """How features answer to the direction, as a unit vector of their shape."""
        if direction.shape != point.sample.shape[1:]:
            raise ValueError("make: carry must be AsIs() with HSpace, whose directions are features, got Transported")
        answer = linearization_at(model, point, self.layer).jvp(direction[None, None])[0, 0]
        size = answer.double().norm()
        if not size > 0:
            raise ValueError(f"make: direction must change the features of layer {self.layer!r}, got one that does not")
        return (answer / size).to(answer.dtype)

    def carry(self, model: Model, slider: Slider, points: Sequence[Point]) -> list[Carried]:
        """The direction in the tangent space at each point."""
        check_carried("apply", slider, self)
        assert slider.features is not None
        found = []
        for point in points:
            basis = local_basis(model, point, self.k, self.layer, tol=self.tol)
            arrived = pull_back(slider.features[None].to(basis.u), basis, self.method, self.regularization)
            found.append(Carried(arrived.v[0], float(arrived.retained)))
        return found


@dataclass(frozen=True)
class FromWords:
    """Recomputed from words at every point, see :func:`latentjac.editing.word_direction`; with the mask of the slider.

    The slider's own direction is not used at other points, nor where it was made when it is applied there again.

    Attributes:
        prompt: Where to go.
        away: Where from; by default what each point is under.
        kind: ``"transposed"`` or ``"difference"``.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If there is no such kind.
    """

    prompt: str
    away: str | None = None
    kind: str = "transposed"

    def __post_init__(self) -> None:
        name = "FromWords"
        set_checked(
            self,
            prompt=check_text(name, "prompt", self.prompt),
            away=check_text(name, "away", self.away, optional=True),
            kind=check_choice(name, "kind", self.kind, WORDS_KINDS),
        )

    def prepare(self, model: Model, point: Point, direction: torch.Tensor) -> torch.Tensor | None:
        """Nothing, where the direction is of samples."""
        if direction.shape != point.sample.shape[1:]:
            raise ValueError("make: carry must be AsIs() with HSpace, whose directions are features, got FromWords")
        return None

    def carry(self, model: Model, slider: Slider, points: Sequence[Point]) -> list[Carried]:
        """The direction of the words at each point."""
        check_carried("apply", slider, self)
        options: dict[str, Any] = {"kind": self.kind, "mask": slider.mask}
        return [Carried(word_direction(model, point, self.prompt, self.away, **options)) for point in points]


def check_carried(function: str, slider: Slider, carry: Carry) -> None:
    """Raise unless a slider has what a choice takes of it.

    Raises:
        ValueError: If it has not.
    """
    made = slider.carry
    if isinstance(carry, Transported):
        known = isinstance(made, Transported) and made.layer == carry.layer
        if slider.features is None or not known:
            raise ValueError(
                f"{function}: carry must be one that the slider was made for, {made}, or AsIs(), got {carry}"
            )
    if isinstance(carry, FromWords) and slider.method.in_features:
        raise ValueError(f"{function}: carry must be AsIs() with HSpace, whose directions are features, got {carry}")
