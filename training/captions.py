"""Captions of avatars: what may be said of a factor, and sentences that say some of it.

A term is a range of one factor and the ways to say it. A caption says a few of the terms that are true of an avatar:

    >>> captions(factors, random.Random(0))
    ['a smiling person with round glasses, a blond bob and a red shirt', '', 'green eyes, no beard', ...]

Some pairs of terms are never said together (``HELD_OUT_PAIRS``), though avatars have both as often as chance will have
it: a model that is trained on these captions has to combine them by itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avatars import BY_NAME, HAIR_STYLES, Factors
from torch import Tensor

EMPTY_PROBABILITY = 0.1
MOST_TERMS = 7


@dataclass(frozen=True)
class Term:
    """A range of one factor, in words.

    Attributes:
        factor: Name of the factor.
        name: The first of the phrases; unique.
        low: Smallest value.
        high: Largest value.
        phrases: Ways to say it, each fit to follow "with".
        adjectives: Ways to say it in one word before the noun.
    """

    factor: str
    name: str
    low: float
    high: float
    phrases: tuple[str, ...]
    adjectives: tuple[str, ...] = ()

    def holds(self, values: Tensor) -> Tensor:
        """Whether values ``[n]`` of the factor lie in the range, bool ``[n]``."""
        return (values >= self.low) & (values <= self.high)


COLORS = {
    "background": ("peach", "pink", "mauve", "lavender", "blue", "mint", "lime", "yellow"),
    "shirt": ("red", "orange", "yellow", "green", "teal", "blue", "purple", "charcoal"),
    "skin": ("pale", "light", "tan", "bronze", "brown", "dark"),
    "hair_color": ("black", "umber", "brown", "copper", "blond", "platinum", "pink", "purple", "blue"),
    "eye_color": ("brown", "amber", "green", "teal", "blue"),
}
COLOR_PHRASES = {
    "background": ("a {} background", "{} behind"),
    "shirt": ("a {} shirt", "a shirt in {}"),
    "skin": ("{} skin", "a {} complexion"),
    "hair_color": ("{} hair", "hair in {}"),
    "eye_color": ("{} eyes", "eyes in {}"),
}
# The gap is where a colour of hair goes.
STYLE_PHRASES = {
    "buzz": ("a {} buzz cut", "very short {} hair"),
    "side part": ("a {} side part", "short {} hair with a part"),
    "bob": ("a {} bob", "{} hair cut in a bob"),
    "long": ("long {} hair", "{} hair down to the shoulders"),
    "curls": ("{} curls", "curly {} hair"),
    "bun": ("a {} bun", "{} hair tied up in a bun"),
    "spikes": ("{} spikes", "spiky {} hair"),
    "pigtails": ("{} pigtails", "{} hair in pigtails"),
}
NOUNS = ("avatar", "person", "face", "head")
LEADS = ("a", "a drawing of a", "a portrait of a", "the")


def _ramp(factor: str) -> list[Term]:
    """A term per colour, each nearest to its own stop of the ramp."""
    names, last = COLORS[factor], len(COLORS[factor]) - 1
    terms = []
    for i, color in enumerate(names):
        phrases = tuple(_with_articles(phrase.format(color)) for phrase in COLOR_PHRASES[factor])
        terms.append(Term(factor, phrases[0], max(0.0, (i - 0.5) / last), min(1.0, (i + 0.5) / last), phrases))
    return terms


def _ends(factor: str, *parts: tuple[float, float, tuple[str, ...], tuple[str, ...]]) -> list[Term]:
    """Terms of ranges that are given as parts of the whole range, from 0 to 1."""
    low, width = BY_NAME[factor].low, BY_NAME[factor].high - BY_NAME[factor].low
    return [Term(factor, said[0], low + width * a, low + width * b, said, before) for a, b, said, before in parts]


def _styles() -> list[Term]:
    return [
        Term("hair_style", phrases[0], i, i, phrases)
        for i, phrases in enumerate(tuple(_without_gap(p) for p in STYLE_PHRASES[style]) for style in HAIR_STYLES)
    ]


def _without_gap(phrase: str, color: str = "") -> str:
    return _with_articles(" ".join(phrase.format(color).split()))


def _with_articles(text: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


# What lies between the ends of a range is not said at all where it has no plain word.
_ALL = [
    *_ramp("background"),
    *_ramp("shirt"),
    *_ramp("skin"),
    *_ends("face", (0, 0.35, ("a narrow face", "a slim jaw"), ()), (0.65, 1, ("a broad face", "a wide jaw"), ())),
    *_ends(
        "turn",
        (0, 0.3, ("a turn to the left", "a head turned left"), ()),
        (0.4, 0.6, ("a look straight ahead",), ()),
        (0.7, 1, ("a turn to the right", "a head turned right"), ()),
    ),
    *_ends(
        "tilt",
        (0, 0.3, ("a lean to the left", "a tilt to the left"), ()),
        (0.4, 0.6, ("an upright pose",), ()),
        (0.7, 1, ("a lean to the right", "a tilt to the right"), ()),
    ),
    *_styles(),
    *_ramp("hair_color"),
    *_ends("beard", (0, 0, ("no beard", "a shaved chin"), ()), (1, 1, ("a beard", "a full beard"), ("bearded",))),
    *_ends(
        "brows",
        (0, 0.3, ("worried brows", "a worried look"), ("worried",)),
        (0.7, 1, ("stern brows", "a stern look"), ("stern",)),
    ),
    *_ends("eye_size", (0, 0.3, ("small eyes", "tiny eyes"), ()), (0.7, 1, ("large eyes", "big eyes"), ())),
    *_ends(
        "eye_open",
        (0, 0.3, ("sleepy eyes", "nearly closed eyes"), ("sleepy",)),
        (0.7, 1, ("open eyes", "eyes wide open"), ()),
    ),
    *_ramp("eye_color"),
    *_ends("glasses", (0, 0, ("no glasses",), ()), (1, 1, ("glasses", "round glasses"), ())),
    *_ends(
        "mouth_curve",
        (0, 0.3, ("a sad mouth", "a frown"), ("sad",)),
        (0.7, 1, ("a smile", "a happy mouth"), ("smiling", "happy")),
    ),
    *_ends(
        "mouth_open",
        (0, 0.3, ("a closed mouth", "closed lips"), ()),
        (0.7, 1, ("an open mouth", "parted lips"), ()),
    ),
]
TERMS = {term.name: term for term in _ALL}
TERMS_OF = {factor: [term for term in _ALL if term.factor == factor] for factor in BY_NAME}

# Colours with colours, things with things, and both: what has to be combined differs.
HELD_OUT_PAIRS = (
    ("a beard", "pigtails"),
    ("blue hair", "glasses"),
    ("a smile", "a green shirt"),
    ("spikes", "copper hair"),
    ("a pink background", "a teal shirt"),
    ("a sad mouth", "an open mouth"),
    ("green eyes", "curls"),
    ("large eyes", "a lean to the left"),
)
_NEVER_WITH: dict[str, set[str]] = {}
for _a, _b in HELD_OUT_PAIRS:
    _NEVER_WITH.setdefault(_a, set()).add(_b)
    _NEVER_WITH.setdefault(_b, set()).add(_a)


def true_terms(factors: Factors) -> list[list[Term]]:
    """For each avatar the terms that hold for it, at most one a factor."""
    n = len(factors["skin"])
    found: list[list[Term]] = [[] for _ in range(n)]
    for factor, terms in TERMS_OF.items():
        taken = [False] * n
        for term in terms:
            for i, holds in enumerate(term.holds(factors[factor]).tolist()):
                if holds and not taken[i]:
                    found[i].append(term)
                    taken[i] = True
    return found


def seen_together(terms: Iterable[Term]) -> bool:
    """Whether captions may say all of these terms: no two of them are held out."""
    names = {term.name for term in terms}
    return not any(_NEVER_WITH.get(name, set()) & names for name in names)


def choose_terms(terms: Sequence[Term], rng: random.Random) -> list[Term]:
    """Some of the terms in random order, none for an empty caption; never two that are held out as a pair."""
    if rng.random() < EMPTY_PROBABILITY:
        return []
    chosen: list[Term] = []
    for term in rng.sample(list(terms), rng.randint(1, min(MOST_TERMS, len(terms)))):
        if seen_together([*chosen, term]):
            chosen.append(term)
    return chosen


def sentence(terms: Sequence[Term], rng: random.Random) -> str:
    """A caption that says these terms, phrased at random."""
    if not terms:
        return ""
    phrases, adjectives = [], []
    left = {term.factor: term for term in terms}
    if "hair_style" in left and "hair_color" in left and rng.random() < 0.6:
        phrases.append(_styled(left.pop("hair_style"), left.pop("hair_color"), rng))
    for term in left.values():
        if term.adjectives and not adjectives and rng.random() < 0.4:
            adjectives.append(rng.choice(term.adjectives))
        else:
            phrases.append(rng.choice(term.phrases))
    rng.shuffle(phrases)
    if not adjectives and rng.random() < 0.4:
        return ", ".join(phrases)
    lead = " ".join([rng.choice(LEADS), *adjectives, rng.choice(NOUNS)])
    return _with_articles(f"{lead} with {_listed(phrases, rng)}" if phrases else lead)


def _styled(style: Term, color: Term, rng: random.Random) -> str:
    name = HAIR_STYLES[int(style.low)]
    return _without_gap(rng.choice(STYLE_PHRASES[name]), color.name.removesuffix(" hair"))


def _listed(phrases: Sequence[str], rng: random.Random) -> str:
    if len(phrases) > 1 and rng.random() < 0.7:
        return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    return ", ".join(phrases)


def captions(factors: Factors, rng: random.Random) -> list[str]:
    """A random caption for each avatar; about one in ten is empty.

    Args:
        factors: For every name of ``FACTORS`` values ``[n]``.
        rng: Source of the choices.
    """
    return [sentence(choose_terms(terms, rng), rng) for terms in true_terms(factors)]


def vocabulary() -> list[str]:
    """All words that captions use, sorted."""
    said = [*LEADS, *NOUNS, "an", "with", "and", ","]
    for term in TERMS.values():
        said += [*term.phrases, *term.adjectives]
    return sorted({word for text in said for word in text.split()})
