"""What is written is JSON for every reader."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from latentjac.strict_json import DEEPEST, from_json, readable, to_json


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def test_every_value_comes_back() -> None:
    value = {"a": [1, -2.5, None, True, "ü\n\"'"], "b": {}, "": {"c": [[]]}, "big": 10**30}
    assert from_json(to_json(value).encode()) == value
    assert from_json(to_json(value, indent=2).encode()) == value


def test_numbers_that_json_lacks_are_strings() -> None:
    text = to_json([math.nan, math.inf, {"a": (-math.inf,)}])
    assert text == '["NaN", "Infinity", {"a": ["-Infinity"]}]'
    found = json.loads(text, parse_constant=refuse)
    assert math.isnan(float(found[0]))
    assert (float(found[1]), float(found[2]["a"][0])) == (math.inf, -math.inf)


def test_names_that_are_not_utf8() -> None:
    name = "caf\udce9.png"  # how Python holds the bytes b"caf\xe9.png"
    assert readable(name) == "caf\\udce9.png"
    assert from_json(to_json({name: Path(name)}, default=str).encode()) == {readable(name): readable(name)}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({1, 2}, TypeError, "got set"),
        ({"a": Path("b")}, TypeError, "got .*Path"),
        ({(1, 2): 3}, TypeError, "keys that are strings, got tuple"),
        ({"1": 0, 1: 0}, ValueError, "every key once"),
    ],
)
def test_what_is_no_json_is_refused(value, error, message: str) -> None:
    with pytest.raises(error, match=message):
        to_json(value)


def test_depth_is_limited_on_both_sides() -> None:
    deep: list = []
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert from_json(to_json(deep).encode()) == deep
    with pytest.raises(ValueError, match=f"at most {DEEPEST} deep"):
        to_json([deep])
    with pytest.raises(ValueError, match=f"at most {DEEPEST} deep, got more"):
        from_json(json.dumps([deep]).encode())
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="deep"):
        to_json(loop)
    assert from_json(b'"' + b"[" * 1000 + b'"') == "[" * 1000


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 10**6, b'{"a":1,' * 2 + b'"b":2,' * 10**6, b"[" * 10**6 + b'"' * 10**6]
)
def test_hostile_texts_take_no_time(text: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"JSON|Unterminated|Expecting"):
        from_json(text)
    assert time.monotonic() - start < 10
