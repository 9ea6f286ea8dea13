"""Studies of words: captions differ as they say, parts are those of the right factor, slopes are slopes."""

from __future__ import annotations

import random

import pytest
import study_captions
import study_words
import torch
from avatars import draw, sample_factors
from captions import TERMS, seen_together
from factors.collecting import Observation
from factors.matching import single_changes
from factors.meaning import NAMES
from factors.statistics import Table


def edit(sample: int, direction: int, sign: int, shares: dict[str, float]) -> Observation:
    parts = torch.tensor([shares.get(name, 0.0) for name in NAMES])
    return Observation("arm", 0.7, "effect", sample, direction, sign, 1.0, 0.06, 1.0, 1.0, parts, sign * parts)


def test_words_are_two_terms_of_their_factor_the_first_of_higher_values() -> None:
    assert tuple(study_words.WORDS) == NAMES
    for factor, (to, away) in study_words.WORDS.items():
        assert TERMS[to].factor == TERMS[away].factor == factor
        assert TERMS[to].low > TERMS[away].low


def test_parts_are_those_of_the_named_factor_and_of_the_best_direction() -> None:
    table = Table([
        edit(0, 0, 1, {"skin": 0.8, "turn": 0.1}), edit(0, 1, 1, {"skin": 0.4, "turn": 0.5}),
        edit(0, 0, -1, {"skin": 0.6, "turn": 0.3}), edit(0, 1, -1, {"skin": 0.4, "turn": 0.3}),
    ])  # fmt: skip
    assert study_words.named_parts(table, ["turn", "skin"]).tolist() == [pytest.approx([0.2, 0.4])]
    assert study_words.best_parts(table, ["turn", "skin"]).tolist() == [pytest.approx([0.4, 0.7])]


def test_the_right_way_is_that_of_the_sign() -> None:
    hair, skin = ([edit(0, 0, sign, {name: 1.0}) for sign in (1, -1)] for name in ("hair_style", "skin"))
    assert study_words.right_ways(skin, ["skin"]) == [1.0, 1.0]
    assert study_words.right_ways(hair, ["hair_style"]) == []  # it has none


def test_an_area_is_where_the_factor_changes_the_picture() -> None:
    factors = sample_factors(torch.Generator().manual_seed(3), 1)
    singles = single_changes(factors, 32)
    area = study_words.area_of("mouth_curve", singles, (8, 8), 32)
    assert 0 < int(area.sum()) < 20
    moved = (draw(factors | {"mouth_curve": torch.ones(1)}, 32) - draw(factors | {"mouth_curve": -torch.ones(1)}, 32))[
        0
    ]
    inside = area.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert moved.square()[:, inside].sum() > 0.95 * moved.square().sum()
    assert int(study_words.area_of("background", singles, (8, 8), 32).sum()) > 20


def test_captions_of_a_set_differ_in_as_many_terms_as_they_say() -> None:
    rng = random.Random(0)
    for _ in range(20):
        first, other = study_captions.two_of_each(rng)
        assert len({term.factor for term in first}) == study_captions.WORDS
        for i, (one, another) in enumerate(zip(first, other, strict=True)):
            assert one.factor == another.factor
            assert one != another
            assert seen_together([*other[:i], *first[i:]])
        made = study_captions.caption_set(rng)
        assert made[study_captions.OWN] != made[study_captions.REPHRASED]
        assert made[study_captions.NONE] == ""
        assert len(made) == study_captions.WORDS + 3


def test_slopes_are_those_of_a_line() -> None:
    distances = {str(m): torch.tensor([[0.1 + 0.02 * m, 0.3]], dtype=torch.float64) for m in range(1, 6)}
    assert study_captions.slopes(distances).tolist() == [pytest.approx([0.02, 0.0])]
