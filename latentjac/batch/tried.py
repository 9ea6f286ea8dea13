"""Which items a folder has rows of, and how each one's last attempt ended."""

from __future__ import annotations

from typing import NamedTuple

from latentjac.batch.folder import RunFolder
from latentjac.batch.items import Item
from latentjac.batch.parts import attempts_of, read_part
from latentjac.batch.work import ERROR


class Tried(NamedTuple):
    """An item that has rows.

    Attributes:
        part: Where the rows of its last attempt are; where several parts have them, the first one.
        digest: Of what it was computed from.
        attempt: Number of the last attempt, from 1.
        failed: Whether a step of that failed.
    """

    part: str
    digest: str
    attempt: int
    failed: bool


def tried_in(folder: RunFolder, fingerprint: str) -> dict[str, Tried]:
    """Finished items by id, each as its last attempt ended.

    Raises:
        FileError: If a table is damaged, or of another run.
    """
    found: dict[str, Tried] = {}
    for part in folder.parts():
        table = read_part(folder, part, fingerprint, ("id", "item", "status", "attempt"))
        columns = [table.column(name).to_pylist() for name in ("id", "item", "status")]
        for id, digest, status, attempt in zip(*columns, attempts_of(table).to_pylist(), strict=True):
            last = found.get(id)
            if last is None or last.attempt < attempt:
                found[id] = Tried(part, digest, attempt, status == ERROR)
            elif last.part == part and last.attempt == attempt and status == ERROR and not last.failed:
                found[id] = last._replace(failed=True)
    return found


def check_unchanged(item: Item, digest: str) -> None:
    """Raise where an item that has rows is not what it was.

    Args:
        item: The item.
        digest: Of what its rows were computed from.

    Raises:
        ValueError: If it is another one.
    """
    if digest != item.digest:
        raise ValueError(
            f"Run: items that are done must stay as they were, got {item.id!r} with another photo, prompt, "
            "seed, class or mask; give it a new id, or take a new folder"
        )
