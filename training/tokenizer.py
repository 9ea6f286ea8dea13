"""CLIP's tokenizer with the words of captions for a vocabulary: one token a word."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# Longest caption with start and end; longer prompts are cut.
TOKENS = 48


def byte_pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges by which byte-pair encoding joins each of the words to one token, in order of their rank."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = encode(word, merges)
        while len(pieces) > 1:
            # A merge of lower rank than all before changes nothing for the words before: they are whole by then.
            merges.append((pieces[0], pieces[1]))
            pieces = encode(word, merges)
    return merges


def encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Pieces of a word after byte-pair encoding."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces = [*word[:-1], word[-1] + WORD_END]
    while True:
        pairs = [p for p in pairwise(pieces) if p in ranks]
        if not pairs:
            return pieces
        best = min(pairs, key=ranks.__getitem__)
        joined, i = [], 0
        while i < len(pieces):
            pair = tuple(pieces[i : i + 2])
            joined.append("".join(pair) if pair == best else pieces[i])
            i += 2 if pair == best else 1
        pieces = joined


def write_tokenizer(words: list[str], folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` of these words; others are spelt in letters."""
    merges = byte_pairs(words)
    letters = [*string.ascii_lowercase, ","]
    pieces = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")


def build_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """A tokenizer of these words, through files in a folder."""
    write_tokenizer(words, folder)
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)
