"""GIFs as a viewer decodes them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from latentjac.report import video_gif, walk_gif


def frames_of(content: bytes) -> tuple[Image.Image, list[np.ndarray], list[int]]:
    gif = Image.open(BytesIO(content))
    pixels, durations = [], []
    for i in range(gif.n_frames):
        gif.seek(i)
        pixels.append(np.asarray(gif.convert("RGB")).astype(int))
        durations.append(gif.info["duration"])
    return gif, pixels, durations


def ramp(shift: int) -> Image.Image:
    """A smooth coloured picture; its left half is the same for every shift."""
    y, x = np.mgrid[0:24, 0:24]
    right = shift * (x >= 12)
    return Image.fromarray(np.stack([10 * x, 10 * y, 5 * (x + y) + right], -1).clip(0, 255).astype(np.uint8))


def test_it_goes_there_and_back() -> None:
    levels = (0, 80, 160, 250)
    gif, pixels, durations = frames_of(walk_gif([Image.new("RGB", (8, 8), (g, g, g)) for g in levels], side=16))
    assert gif.size == (16, 16)
    assert gif.info["loop"] == 0
    assert [round(p.mean()) for p in pixels] == [0, 80, 160, 250, 160, 80]
    assert durations == [480, 80, 80, 480, 80, 80]


def test_a_video_goes_forward_and_begins_again() -> None:
    gif, pixels, durations = frames_of(video_gif([Image.new("RGB", (8, 8), (g, g, g)) for g in (0, 160, 80)], side=16))
    assert (gif.size, gif.info["loop"]) == ((16, 16), 0)
    assert [round(p.mean()) for p in pixels] == [0, 160, 80]
    assert durations == [80, 80, 80]
    with pytest.raises(ValueError, match="video_gif: images must be at least two of one size, got 1"):
        video_gif([ramp(0)])


def test_what_does_not_change_does_not_flicker() -> None:
    """One palette for all frames, in which a pixel that stays has one colour."""
    images = [ramp(shift) for shift in (0, 10, 20, 30)]
    _, pixels, _ = frames_of(walk_gif(images, side=24))
    for frame, image in zip(pixels, images, strict=False):
        assert (frame[:, :12] == pixels[0][:, :12]).all()
        assert abs(frame - np.asarray(image).astype(int)).mean() < 6
    assert len(np.unique(np.concatenate([p.reshape(-1, 3) for p in pixels]), axis=0)) <= 256


@pytest.mark.parametrize("sizes", [[], [8], [8, 9]])
def test_pictures_that_make_no_walk_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=f"at least two of one size, got {len(sizes)}"):
        walk_gif([Image.new("RGB", (n, n)) for n in sizes])


def test_large_pictures_keep_their_size() -> None:
    gif, pixels, _ = frames_of(walk_gif([ramp(0).resize((40, 60)), ramp(20).resize((40, 60))], side=32))
    assert gif.size == (40, 60)
    assert len(pixels) == 2
