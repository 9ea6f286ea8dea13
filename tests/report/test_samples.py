"""Sliders of several samples on one page."""

from __future__ import annotations

import base64
import math
import re

import numpy as np
import pytest
from PIL import Image
from report.parsed import Page

from latentjac.report import run_page
from latentjac.report.samples import Sample, narrower, sample_sliders, strip_of
from latentjac.report.scrubber import MOST_BYTES


def noise(side: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def sample(title: str, side: int = 8, count: int = 3) -> Sample:
    strip = strip_of("direction 1", {float(i): noise(side, i) for i in range(count)})
    assert strip is not None
    return Sample(title, [strip], noise(side, count))


def test_style_and_script_stand_once_and_titles_are_escaped() -> None:
    html = sample_sliders([sample("one"), sample("<two> & 'three'")])
    page = Page(run_page({"command": "run"}, [], html))
    assert page.tags.count("latentjac-scrubber") == page.tags.count("h3") == 2
    assert page.tags.count("script") == 1
    assert "<two> & 'three'" in page.text
    assert all(source.startswith("data:image/webp") for source in page.sources)
    assert sample_sliders([]) == ""


def test_pictures_of_all_samples_together_are_small() -> None:
    html = sample_sliders([sample(str(i), side=256, count=12) for i in range(6)])
    sizes = [len(base64.b64decode(text)) for text in re.findall(r"base64,([^\"]+)", html)]
    assert len(sizes) == 6 * 13
    assert MOST_BYTES / 4 < sum(sizes) <= MOST_BYTES


def test_a_strip_has_its_pictures_in_order_and_the_unchanged_one_at_0() -> None:
    pictures = {2.0: noise(8, 2), -1.0: noise(8, 1)}
    strip = strip_of("smile", pictures, unchanged=noise(4, 0), linear=0.5, leakage=[0.2, 0.1])
    assert strip is not None
    assert strip.distances == (-1.0, 0.0, 2.0)
    assert [image.size for image in strip.images] == [(8, 8)] * 3
    assert strip.images[2] is pictures[2.0]
    assert strip.leakage == (0.1, 0.0, 0.2)
    assert strip.linear_up_to == 0.5
    own = strip_of("smile", {0.0: noise(8, 3), **pictures}, unchanged=noise(8, 0), leakage=[math.inf, 0.2, 0.1])
    assert own is not None
    assert own.images[1] is not None
    assert np.array_equal(np.asarray(own.images[1]), np.asarray(noise(8, 3)))


def test_a_single_picture_is_no_strip() -> None:
    assert strip_of("smile", {1.0: noise(8, 1)}) is None
    assert strip_of("smile", {}, unchanged=noise(8, 1)) is None
    assert strip_of("smile", {1.0: noise(8, 1)}, unchanged=noise(8, 2)) is not None


@pytest.mark.parametrize(("linear", "expected"), [((-0.4, 1.0), 0.4), ((-1.0, 0.3), 0.3), (None, None)])
def test_the_range_is_that_of_the_shorter_side(linear: tuple[float, float] | None, expected: float | None) -> None:
    assert narrower(linear) == expected
