"""Which part of the items a process works on: decided by the items' ids alone, so that nobody has to agree on it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from latentjac.arguments import check_int, check_kind, shown

MOST_SHARDS = 9999  # what the names of parts have room for
_FORM = re.compile(r"([0-9]{1,4})/([0-9]{1,4})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of several disjoint parts of all items.

    Attributes:
        index: Which, from 1.
        count: Of how many.

    Raises:
        TypeError: If a number is no int.
        ValueError: If a number is out of range.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", check_int("Shard", "count", self.count, 1, MOST_SHARDS))
        object.__setattr__(self, "index", check_int("Shard", "index", self.index, 1, self.count))

    @property
    def name(self) -> str:
        """How files of the shard begin."""
        return f"{self.index:04d}-of-{self.count:04d}"

    def __contains__(self, id: str) -> bool:
        """Whether an item belongs to the shard; the same on every machine, whatever other items there are."""
        if self.count == 1:
            return True
        number = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a text such as ``"2/8"``.

        Raises:
            TypeError: If it is no text.
            ValueError: If it has another form, or the numbers are out of range.
        """
        check_kind("Shard", "shard", text, str, "a text such as '2/8'")
        found = _FORM.fullmatch(text)
        numbers = (0, 0) if found is None else (int(found[1]), int(found[2]))
        if not 1 <= numbers[0] <= numbers[1]:
            raise ValueError(f"Shard: shard must be i/n with 1 <= i <= n <= {MOST_SHARDS}, got {shown(text)}")
        return cls(*numbers)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Shard:
        """The shard that Slurm and torchrun give a process; the whole where there is neither.

        A job array of Slurm sets ``SLURM_ARRAY_TASK_ID``, ``_COUNT``, ``_MIN`` and ``_STEP``; torchrun ``RANK`` and
        ``WORLD_SIZE``; and srun ``SLURM_PROCID`` and ``SLURM_STEP_NUM_TASKS``, which count where there is no torchrun.
        In a job of an array, the processes of torchrun or srun share that job's part.

        Raises:
            ValueError: If a variable is no number, or they do not fit together.
        """
        array = _whole(environment, "SLURM_ARRAY_TASK_ID")
        jobs = _whole(environment, "SLURM_ARRAY_TASK_COUNT")
        rank, world = _whole(environment, "RANK"), _whole(environment, "WORLD_SIZE")
        job, of_jobs = 0, 1
        if array is not None and jobs is not None:
            first = _whole(environment, "SLURM_ARRAY_TASK_MIN") or 0
            step = _whole(environment, "SLURM_ARRAY_TASK_STEP") or 1
            job, of_jobs = (array - first) // step, jobs
        if rank is None or world is None:
            rank, world = _whole(environment, "SLURM_PROCID"), _whole(environment, "SLURM_STEP_NUM_TASKS")
        if rank is None or world is None:
            rank, world = 0, 1
        index, count = job * world + rank + 1, of_jobs * world
        if not 1 <= index <= count <= MOST_SHARDS:
            raise ValueError(
                f"Shard: variables of Slurm and torchrun must name one of at most {MOST_SHARDS} shards, got "
                f"{index}/{count}; a shard that is given comes before them"
            )
        return cls(index, count)


@dataclass(frozen=True)
class RayShare:
    """What a process of a Ray cluster works on: whatever items Ray hands it.

    Attributes:
        key: Eight hexadecimal digits that no other process has.
    """

    key: str = field(default_factory=lambda: secrets.token_hex(4))

    count: ClassVar[int] = 0  # of no number of shards

    @property
    def name(self) -> str:
        """How its lock is called."""
        return f"ray-{self.key}"

    def __str__(self) -> str:
        return self.name


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None or text == "":
        return None
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII):
        raise ValueError(f"Shard: variable {name} must be a whole number, got {shown(text)}")
    return int(text)
