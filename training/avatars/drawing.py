"""Avatars from their factors: a fixed, differentiable function from a few numbers to a picture.

Every shape is a signed distance, so that edges are smooth, shadows soft, and a picture has a derivative in every
continuous factor (``torch.func.jvp`` of :func:`draw` gives it): the true direction in which that factor changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .factors import check_factors
from .hair import hair
from .palettes import BACKGROUND, HAIR, IRIS, SHIRT, SKIN, constant, ramp
from .shapes import box, circle, cover, crescent, cut, ellipse, glow, join, length

ZOOM = 1.1
EYE_X, EYE_Y, MOUTH_Y = 0.215, 0.04, 0.345


class Canvas:
    """Pictures ``[n, 3, s, s]`` in [0, 1] that are painted layer by layer."""

    def __init__(self, color: Tensor, size: int) -> None:
        self.picture = color.expand(-1, -1, size, size)
        self.pixel = 2 / size / ZOOM

    def paint(self, color: Tensor, distance: Tensor) -> None:
        """Fill a shape."""
        self.blend(color, cover(distance, self.pixel))

    def blend(self, color: Tensor, opacity: Tensor) -> None:
        """Lay a colour over everything with an opacity ``[n, s, s]``."""
        self.picture = torch.lerp(self.picture, color, opacity[:, None])


@dataclass
class Head:
    """Factors as numbers that broadcast with pixels, and the coordinates of a leaning, turning head.

    Attributes:
        of: Factors ``[n, 1, 1]``.
        x: Coordinate across the head from its middle; the head is about one wide.
        y: Coordinate along it, downwards.
        front: Like x, for what lies at the front of the face: it moves more when the head turns.
        outline: Distance from the head.
    """

    of: dict[str, Tensor]
    x: Tensor
    y: Tensor
    front: Tensor
    outline: Tensor

    @property
    def eye(self) -> Tensor:
        """Coordinate across either eye, outwards from its middle."""
        return self.front.abs() - EYE_X


def draw(factors: Mapping[str, Tensor], size: int = 64) -> Tensor:
    """Draw avatars.

    Args:
        factors: For every name of ``FACTORS`` values ``[n]``, on any device; their type is that of the pictures.
        size: Side of the pictures in pixels.

    Returns:
        Pictures ``[n, 3, size, size]`` in [0, 1].

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a factor is missing, unknown or out of range, or the size is below 16.
    """
    check_factors("draw", factors)
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"draw: size must be an int, got {type(size).__name__}")
    if size < 16:
        raise ValueError(f"draw: size must be at least 16, got {size}")
    like = factors["skin"]
    place = ((torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * (2 / size) - 1) / ZOOM
    x, y = place[None, None, :], place[None, :, None] - 0.01
    colors = {
        name: ramp(stops, factors[factor])
        for name, stops, factor in (
            ("background", BACKGROUND, "background"),
            ("shirt", SHIRT, "shirt"),
            ("skin", SKIN, "skin"),
            ("hair", HAIR, "hair_color"),
            ("iris", IRIS, "eye_color"),
        )
    }
    head = _head({name: values[:, None, None] for name, values in factors.items()}, x, y)
    back, front = hair(factors["hair_style"], head.x, head.y)
    canvas = Canvas(colors["background"], size)
    _background(canvas, x, y)
    _hair(canvas, colors["hair"] * 0.88, back, head)
    _body(canvas, colors, head, x, y)
    _face(canvas, colors["skin"], head, front)
    _eyes(canvas, colors, head)
    _beard(canvas, colors["hair"], head)
    _mouth(canvas, colors["skin"], head)
    _glasses(canvas, head)
    _hair(canvas, colors["hair"], front, head)
    return canvas.picture


def _head(of: dict[str, Tensor], x: Tensor, y: Tensor) -> Head:
    angle = 0.14 * of["tilt"]
    cos, sin = angle.cos(), angle.sin()
    # The head leans about the base of the neck.
    down = y - 0.62
    across, along = cos * x + sin * down, cos * down - sin * x + 0.62
    turn = of["turn"]
    moved = across - 0.095 * turn
    front = moved * (1 + 0.3 * turn * moved)
    across = across - 0.015 * turn
    jaw = ellipse(across - 0.03 * turn, along - 0.16, 0.35 + 0.1 * of["face"], 0.42)
    outline = join(ellipse(across, along + 0.06, 0.49, 0.5), jaw, 0.15)
    return Head(of, across, along, front, outline)


def _background(canvas: Canvas, x: Tensor, y: Tensor) -> None:
    white = constant("ffffff", canvas.picture)
    canvas.blend(white, 0.34 * glow(length(x, y + 0.05) - 0.78, 0.5))


def _hair(canvas: Canvas, color: Tensor, distance: Tensor, head: Head) -> None:
    """Hair with a band of gloss and darker edges."""
    edge = glow(-distance - 0.05, 0.16) * 0.3 + 0.22 * glow(-0.5 - head.x - 0.4 * head.y, 1.6)
    shaded = torch.lerp(color, color * constant("8a7f92", color), edge[:, None])
    band = length(head.x + 0.04, head.y - 0.05) - 0.5
    gloss = torch.exp(-((band / 0.05) ** 2)) * glow(length(head.x + 0.2, head.y + 0.45) - 0.12, 0.5)
    shaded = torch.lerp(shaded, constant("ffffff", color), 0.3 * gloss[:, None])
    canvas.blend(shaded, cover(distance, canvas.pixel))


def _body(canvas: Canvas, colors: dict[str, Tensor], head: Head, x: Tensor, y: Tensor) -> None:
    """Neck and shirt, under the shadow of the head."""
    neck = join(box(x, y - 0.66, 0.17, 0.26, 0.05), ellipse(x, y - 0.86, 0.25, 0.12), 0.1)
    shadow = 0.75 * glow(head.outline - 0.09, 0.22)
    skin = colors["skin"]
    canvas.paint(torch.lerp(skin, skin * constant("d29a94", skin), shadow[:, None]), neck)
    shoulders = cut(
        join(ellipse(x, y - 1.15, 0.76, 0.42), ellipse(x, y - 0.97, 0.45, 0.26), 0.2), ellipse(x, y - 0.68, 0.2, 0.17)
    )
    shirt = colors["shirt"]
    shade = 0.55 * glow(head.outline - 0.06, 0.3) + 0.25 * glow(-x - 0.15, 1.2)
    canvas.paint(torch.lerp(shirt, shirt * constant("8f86a0", shirt), shade[:, None]), shoulders)


def _face(canvas: Canvas, skin: Tensor, head: Head, hair_front: Tensor) -> None:
    """Ears, head, cheeks and nose."""
    shadow = skin * constant("d49a92", skin)
    ears = ellipse(head.x.abs() - 0.49, head.y - 0.08, 0.085, 0.12)
    canvas.paint(torch.lerp(skin, shadow, (0.3 + 0.7 * glow(ears + 0.05, 0.06))[:, None]), ears)
    side = 0.45 * glow(-0.75 * head.x - 0.65 * head.y + 0.28, 0.75)
    under_hair = 0.5 * glow(hair_front - 0.02, 0.12)
    shaded = torch.lerp(skin, shadow, (side + under_hair - side * under_hair)[:, None])
    canvas.paint(shaded, head.outline)
    blush = 0.3 * glow(ellipse(head.front.abs() - 0.29, head.y - 0.23, 0.09, 0.06), 0.13)
    canvas.blend(torch.lerp(skin, constant("f0506a", skin), 0.55), blush)
    nose = ellipse(head.front - 0.03 * head.of["turn"], head.y - 0.175, 0.055, 0.04)
    canvas.blend(shadow * constant("f0d8d4", skin), 0.75 * glow(nose, 0.04))
    canvas.blend(
        torch.lerp(skin, constant("ffffff", skin), 0.4),
        0.5 * glow(length(head.front + 0.012, head.y - 0.14) - 0.02, 0.04),
    )


def _eyes(canvas: Canvas, colors: dict[str, Tensor], head: Head) -> None:
    of, dark = head.of, constant("2b2230", canvas.picture)
    x, y = head.eye, head.y - EYE_Y
    width = 0.095 + 0.04 * of["eye_size"]
    height = width * (0.18 + 0.82 * of["eye_open"])
    lid = ellipse(x, y + 0.022, width + 0.012, height + 0.012)
    canvas.paint(dark, lid)
    white = ellipse(x, y, width, height)
    inside = cover(white, canvas.pixel)
    canvas.blend(constant("fbf8f4", canvas.picture), inside)
    iris = 0.8 * width
    canvas.blend(colors["iris"], inside * cover(circle(x, y, iris), canvas.pixel))
    canvas.blend(dark, inside * cover(circle(x, y, 0.5 * iris), canvas.pixel))
    # Light comes from the left for both eyes, so this one is not mirrored.
    side = torch.where(head.front >= 0, 1.0, -1.0)
    light = circle(x * side + 0.38 * iris, y + 0.38 * iris, 0.03)
    canvas.blend(constant("ffffff", canvas.picture), inside * cover(light, canvas.pixel))
    cos, sin = (0.45 * of["brows"]).cos(), (0.45 * of["brows"]).sin()
    above = y + 0.215
    brow = crescent(cos * x - sin * above, cos * above + sin * x, 0.1, -0.035, 0.014, 0.012)
    canvas.paint(colors["hair"] * 0.7, brow)


def _beard(canvas: Canvas, color: Tensor, head: Head) -> None:
    cheeks = 0.29 - 1.5 * head.front * head.front - head.y
    shape = torch.maximum(head.outline - 0.025, cheeks)
    shade = 0.35 * glow(-0.75 * head.x - 0.65 * head.y + 0.35, 0.7)
    canvas.blend(
        torch.lerp(color * 0.9, color * 0.55, shade[:, None]), head.of["beard"] * glow(shape, 2 * canvas.pixel)
    )


def _mouth(canvas: Canvas, skin: Tensor, head: Head) -> None:
    x, y = head.front, head.y - MOUTH_Y - 0.03 * head.of["mouth_open"]
    half_width, rise = 0.17, 0.17 * head.of["mouth_curve"]
    swell = 0.012 + 0.085 * head.of["mouth_open"]
    lips = crescent(x, y, half_width, rise, 0.014, swell)
    canvas.paint(torch.lerp(skin, constant("b8384e", skin), 0.62) * 0.92, lips)
    inside = cover(lips + 0.026, canvas.pixel)
    canvas.blend(constant("5a1f2e", skin), inside)
    tongue = ellipse(x, y - 0.05 - 0.5 * swell, 0.09, 0.06)
    canvas.blend(constant("e4707c", skin), inside * cover(tongue, 2 * canvas.pixel))
    teeth = y + rise * ((x / half_width) ** 2 - 0.5) + swell - 0.05
    canvas.blend(constant("fffaf2", skin), inside * cover(teeth, canvas.pixel))


def _glasses(canvas: Canvas, head: Head) -> None:
    x, y = head.eye, head.y - EYE_Y
    worn = head.of["glasses"]
    lens = box(x, y, 0.175, 0.16, 0.14)
    white = constant("ffffff", canvas.picture)
    canvas.blend(white, 0.14 * worn * cover(lens, canvas.pixel))
    bridge = box(x + EYE_X, y + 0.03, 0.05, 0.017, 0.01)
    arms = torch.maximum(box(x - 0.25, y + 0.05, 0.1, 0.017, 0.01), head.outline - 0.02)
    frame = torch.minimum(torch.minimum(lens.abs() - 0.02, bridge), arms)
    canvas.blend(constant("33303f", canvas.picture), worn * cover(frame, canvas.pixel))
