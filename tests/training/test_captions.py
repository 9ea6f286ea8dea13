"""Captions: true of their avatars, in words that the tokenizer knows, and never with a pair that is held out."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
import torch
from avatars import FACTORS, HAIR_STYLES, sample_factors
from captions import (
    EMPTY_PROBABILITY,
    HELD_OUT_PAIRS,
    MOST_TERMS,
    TERMS,
    TERMS_OF,
    captions,
    choose_terms,
    seen_together,
    sentence,
    true_terms,
    vocabulary,
)
from tokenizer import TOKENS, build_tokenizer, byte_pairs, encode
from transformers import CLIPTokenizer


@pytest.fixture(scope="module")
def factors() -> dict[str, torch.Tensor]:
    return sample_factors(torch.Generator().manual_seed(0), 1000)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> CLIPTokenizer:
    return build_tokenizer(vocabulary(), tmp_path_factory.mktemp("tokenizer"))


def test_every_factor_has_terms_that_exclude_each_other() -> None:
    assert set(TERMS_OF) == {factor.name for factor in FACTORS}
    for terms in TERMS_OF.values():
        assert len(terms) >= 2
        for a, b in combinations(terms, 2):
            assert a.high <= b.low or b.high <= a.low
            assert not {*a.phrases, *a.adjectives} & {*b.phrases, *b.adjectives}


def test_no_phrase_means_two_things() -> None:
    said = [text for term in TERMS.values() for text in (*term.phrases, *term.adjectives)]
    assert len(said) == len(set(said))


def test_true_terms_hold_and_name_each_factor_once(factors) -> None:
    for i, terms in enumerate(true_terms(factors)):
        assert len({term.factor for term in terms}) == len(terms)
        for term in terms:
            assert term.low <= factors[term.factor][i] <= term.high
        # Categories, binary factors and colours always have a word.
        assert {"hair_style", "glasses", "beard", "shirt", "skin"} <= {term.factor for term in terms}


def test_the_style_of_a_term_is_its_category() -> None:
    for style, term in zip(HAIR_STYLES, TERMS_OF["hair_style"], strict=True):
        assert any(style.split()[0] in phrase for phrase in term.phrases)


def test_held_out_pairs_are_of_terms_and_never_said_together(factors) -> None:
    rng, said, true = random.Random(0), set(), set()
    for terms in true_terms(factors):
        true |= {frozenset(pair) for pair in combinations([term.name for term in terms], 2)}
        for _ in range(10):
            chosen = choose_terms(terms, rng)
            assert len(chosen) <= MOST_TERMS
            said |= {frozenset(pair) for pair in combinations([term.name for term in chosen], 2)}
    for pair in HELD_OUT_PAIRS:
        assert set(pair) <= set(TERMS)
        assert not seen_together([TERMS[name] for name in pair])
        assert frozenset(pair) in true
        assert frozenset(pair) not in said
        # Each of the two is said beside other words.
        assert all(any(name in others for others in said) for name in pair)


def test_captions_vary_and_repeat_with_their_seed(factors) -> None:
    first = captions(factors, random.Random(5))
    assert first == captions(factors, random.Random(5))
    assert first != captions(factors, random.Random(6))
    empty = sum(caption == "" for caption in first) / len(first)
    assert abs(empty - EMPTY_PROBABILITY) < 0.03


def test_a_sentence_says_each_term_once() -> None:
    terms = [TERMS[name] for name in ("a beard", "spikes", "copper hair", "an orange shirt")]
    sentences = {sentence(terms, random.Random(seed)) for seed in range(300)}
    assert len(sentences) > 50
    for said in sentences:
        assert said.count("copper") == said.count("orange") == said.count("beard") == 1
        assert ("spikes" in said) + ("spiky" in said) == 1
        assert "a orange" not in said
        assert "a avatar" not in said


def test_every_word_is_one_token_and_every_caption_fits(factors, tokenizer) -> None:
    words = vocabulary()
    assert [len(tokens) for tokens in tokenizer(words, add_special_tokens=False).input_ids] == [1] * len(words)
    said = captions(factors, random.Random(0))
    for caption, tokens in zip(said, tokenizer(said).input_ids, strict=True):
        assert len(tokens) == 2 + len(caption.replace(",", " ,").split())
        assert len(tokens) <= TOKENS
    spoken = {word for caption in said for word in caption.replace(",", " ,").split()}
    assert spoken <= set(words)


def test_the_longest_caption_fits() -> None:
    longest = sorted(
        (max(len(p.split()) for t in terms for p in t.phrases) for terms in TERMS_OF.values()), reverse=True
    )
    # Commas or "and" between them; start, end, and "a drawing of a sleepy person with".
    assert sum(longest[:MOST_TERMS]) + MOST_TERMS - 1 + 2 + 7 <= TOKENS


def test_merges_of_later_words_leave_earlier_words_whole() -> None:
    words = ["blond", "long", "lo", "on", "bl", "ond", "a"]
    merges = byte_pairs(words)
    assert [len(encode(word, merges)) for word in words] == [1] * len(words)


def test_unknown_words_are_spelt(tokenizer) -> None:
    assert len(tokenizer("zyx", add_special_tokens=False).input_ids) == 3
    assert tokenizer("A SMILE").input_ids == tokenizer("a smile").input_ids
