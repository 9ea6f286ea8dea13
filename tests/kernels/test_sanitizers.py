"""The CPU kernels under sanitizers (tests/native): a short pass. `python tests/native` runs the long one.

Copies differ in the width of their vectors: here the narrowest and the widest are built, there all.
"""

from __future__ import annotations

import os
from pathlib import Path

import native
import pytest

TWINS_ONLY = os.environ.get("LATENTJAC_KERNELS") == "torch"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(TWINS_ONLY, reason="LATENTJAC_KERNELS=torch")]
NARROWEST, *_, WIDEST = native.copies()
COPIES = [NARROWEST, WIDEST]


def built(sanitizers, copies, folder):
    """The programs by copy; those that another worker has built are taken as they are."""
    if not native.supports(sanitizers, folder):
        pytest.skip(f"{native.compiler()} has no sanitizers {sanitizers} that run here")
    build = native.Build(folder, sanitizers)
    programs = {copy: build.program(copy) for copy in copies}
    return programs if all(map(Path.exists, programs.values())) else build.programs(copies)


@pytest.fixture(scope="module")
def memory_programs(made_once):
    with made_once("address") as folder:
        return built("address,undefined", COPIES, folder)


@pytest.fixture(scope="module")
def thread_programs(made_once):
    with made_once("thread") as folder:
        return built("thread", [WIDEST], folder)


def check(program, *arguments):
    done = native.run(program, *arguments)
    assert done.returncode == 0, done.stderr[-8000:]
    assert done.stdout.startswith(arguments[0])


@pytest.mark.parametrize("copy", COPIES)
def test_memory_and_arithmetic(memory_programs, copy):
    for arguments in (("shapes", "7", "1"), ("memory", "2", "2"), ("threads", "1", "3")):
        check(memory_programs[copy], *arguments)


def test_races(thread_programs):
    check(thread_programs[WIDEST], "threads", "3", "1")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("beyond an array", "heap-buffer-overflow"),
        ("beyond an array of a workspace", "use-after-poison"),
        ("overflow", "signed integer overflow"),
        ("alignment", "misaligned address"),
    ],
)
def test_a_fault_is_found(memory_programs, kind, words):
    done = native.run(memory_programs["baseline"], "fault", kind)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_race_is_found(thread_programs):
    done = native.run(thread_programs[WIDEST], "fault", "race")
    assert done.returncode != 0
    assert "data race" in done.stderr
