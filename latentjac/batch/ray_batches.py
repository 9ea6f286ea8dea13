"""Items as blocks of Ray Data, and batches of Ray Data as items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from latentjac.arguments import check_kind
from latentjac.batch.item_tables import OWN, completed, whole
from latentjac.batch.items import Item, Items
from latentjac.batch.parts import COLUMNS, arrow_type
from latentjac.batch.stored import Given, Stored, text_of

IMAGE, STORED, ATTEMPT = "image", "stored", "attempt"  # columns of batches that are none of items


def blocks_of(items: Items, numbers: Sequence[int], attempt: Callable[[Item], int], size: int) -> Iterator[Any]:
    """Tables of so many items each.

    Args:
        items: All items.
        numbers: Which of them.
        attempt: Which attempt an item is at.
        size: How many go into a table.
    """
    import pyarrow

    for begin in range(0, len(numbers), size):
        some = numbers[begin : begin + size]
        rows = list(items.at(some))
        table = items.table.take(list(some))
        photos = [None if item.photo is None else str(item.photo.absolute()) for item in rows]
        table = table.set_column(table.column_names.index("photo"), "photo", pyarrow.array(photos, "string"))
        for column in items.mask_columns:
            masks = [None if (mask := item.masks[column]) is None else str(mask.absolute()) for item in rows]
            table = table.set_column(table.column_names.index(column), column, pyarrow.array(masks, "string"))
        table = table.append_column(ATTEMPT, pyarrow.array([attempt(item) for item in rows], "int32"))
        if any(item.stored is not None for item in rows):
            texts = [None if item.stored is None else text_of(item.stored) for item in rows]
            table = table.append_column(STORED, pyarrow.array(texts, "string"))
        yield table


def items_in(
    batch: Any, pictures: Callable[[str], Stored], masks: Mapping[str, str] = MappingProxyType({})
) -> tuple[Items | None, dict[str, int]]:
    """The items of a batch, and which attempt each is at; None where it is empty.

    Args:
        batch: A mapping of columns, or a table of pyarrow.
        pictures: Gives the picture that a text of the column ``stored`` stands for.
        masks: Columns that name masks, each with the key of the spec that names it.

    Raises:
        TypeError: If it is neither.
        ValueError: If a column is missing or holds something else.
    """
    import pyarrow

    check_kind("RayWorker", "batch", batch, (pyarrow.Table, Mapping), "a table of pyarrow or a mapping of columns")
    table = batch if isinstance(batch, pyarrow.Table) else None
    names = list(batch) if table is None else table.column_names
    if "id" not in names:
        raise ValueError(f"RayWorker: batch must have a column 'id', got {sorted(map(str, names))}")
    columns = {name: batch[name] if table is None else table.column(name) for name in names}
    images, texts, attempts = (_listed(columns.pop(name, None)) for name in (IMAGE, STORED, ATTEMPT))
    taken = [name for name in columns if name in COLUMNS and name not in OWN]
    if taken:
        raise ValueError(f"RayWorker: own columns must not be called as those of results, got {taken[0]!r}")
    made = pyarrow.table({name: _arrow(name, column) for name, column in columns.items()})
    if not len(made):
        return None, {}
    found: list[Stored | None] = [None] * len(made)
    if texts is not None:
        found = [None if text is None else pictures(text) for text in texts]
    if images is not None:
        found = [Given(image) if image is not None else there for image, there in zip(images, found, strict=True)]
        made = _with_photos(made, images)
    items = Items(completed(made, None), Path("/"), found.__getitem__)
    items.take_masks(masks)
    ids = items.table.column("id").to_pylist()
    return items, dict(zip(ids, [1] * len(ids) if attempts is None else map(int, attempts), strict=True))


def _listed(column: Any) -> list[Any] | None:
    if column is None:
        return None
    return list(column) if isinstance(column, np.ndarray) else column.to_pylist()  # type: ignore[no-any-return]


def _arrow(name: str, column: Any) -> Any:
    """A column for pyarrow; NaN in one that a run knows is a missing value."""
    import pyarrow

    if not isinstance(column, np.ndarray) and (name not in OWN or not pyarrow.types.is_floating(column.type)):
        return column
    values = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
    if name in OWN:
        values = [whole(value) for value in values]
    return pyarrow.array(values)


def _with_photos(table: Any, images: Sequence[Any]) -> Any:
    """Items with a picture are called as photos by their ids, where they have no other name."""
    import pyarrow

    ids = table.column("id").to_pylist()
    known = table.column("photo").to_pylist() if "photo" in table.column_names else [None] * len(ids)
    rows = zip(ids, known, images, strict=True)
    names = [str(id) if photo is None and image is not None else photo for id, photo, image in rows]
    rest = table.drop_columns(["photo"]) if "photo" in table.column_names else table
    return rest.append_column("photo", pyarrow.array(names, "string"))


def empty_rows() -> Any:
    """A table of results without rows."""
    import pyarrow

    return pyarrow.schema([(name, arrow_type(kind)) for name, kind in COLUMNS.items()]).empty_table()
