"""Items from collections that hold pictures themselves: tar files in the layout of webdataset, and data sets."""

from __future__ import annotations

import glob
import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from latentjac.arguments import check_text, shown
from latentjac.batch.tars import Member, members, sample_of
from latentjac.files import FileError
from latentjac.strict_json import from_json, to_json

DATASET_KEYS = ("dataset", "config", "split", "id", "photo", "prompt", "seed", "class")
_TEXTS, _CLASS, _FACTS = ("txt", "caption", "text"), "cls", "json"  # of what webdataset calls the parts of a sample
_PHOTOS = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff")


class Stored(Protocol):
    """A picture in a collection."""

    def picture(self) -> Image.Image:
        """Read it.

        Raises:
            ValueError: If it is none.
        """
        ...


@dataclass(frozen=True)
class Given:
    """A picture in memory.

    Attributes:
        content: The bytes of a picture file, or an array of uint8, height x width x 3.
    """

    content: Any

    def picture(self) -> Image.Image:
        """The picture that it is.

        Raises:
            ValueError: If it is none.
        """
        if not isinstance(self.content, bytes):
            return Image.fromarray(self.content)
        try:
            return Image.open(io.BytesIO(self.content))
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"photo must be a picture file, got {len(self.content)} bytes: {error}") from error


def text_of(stored: Stored) -> str:
    """Where a picture is, for :func:`pictures_of` on another machine."""
    if isinstance(stored, _OfDataset):
        return to_json({"row": stored.row})
    return to_json(asdict(stored), default=str)  # type: ignore[call-overload, no-any-return]


def pictures_of(source: Any, root: Path) -> Callable[[str], Stored]:
    """What gives a picture by its text; a data set is opened when it is first needed."""

    @cache
    def by_row() -> Callable[[int], Stored]:
        found: Callable[[int], Stored] = table_of_dataset(source, root)[1]
        return found

    def of(text: str) -> Stored:
        facts = from_json(text.encode())
        if "row" in facts:
            return by_row()(facts["row"])
        return Member(**{**facts, "tar": Path(facts["tar"])})

    return of


def rows_of_tars(pattern: str, root: Path) -> tuple[list[dict[str, Any]], list[Stored | None]]:
    """Rows of the samples in tar files, and their pictures.

    Args:
        pattern: A tar file, or several by ``*``, ``?`` and ``[...]``.
        root: Folder that a relative pattern begins in.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If one is no tar file, or a part of a sample is not what its name says.
    """
    place = str(root / Path(pattern).expanduser())
    paths = sorted(map(Path, glob.glob(place))) if glob.has_magic(pattern) else [Path(place)]
    if not paths:
        raise FileNotFoundError(f"items: 'items' must be tar files that are there, got {shown(pattern)}")
    rows: dict[str, dict[str, Any]] = {}
    pictures: dict[str, Stored] = {}
    for path in paths:
        for member in members(path):
            key, kind = sample_of(member.name)
            row = rows.setdefault(key, {"id": key})
            if kind.lower() in _PHOTOS:
                if key in pictures:
                    raise FileError(f"items: sample {key!r} must have one picture, got a second one in {str(path)!r}")
                row["photo"], pictures[key] = f"{path}/{member.name}", member
            else:
                row.update(_known(kind, member))
    return list(rows.values()), [pictures.get(key) for key in rows]


def _known(kind: str, member: Member) -> dict[str, Any]:
    """Columns of a part of a sample that is no picture; parts of other kinds have none."""
    if kind not in (*_TEXTS, _CLASS, _FACTS):
        return {}
    try:
        content = member.content()
        if kind == _FACTS:
            facts = from_json(content)
            if not isinstance(facts, dict):
                raise ValueError("must be a JSON object")
            return {name: value for name, value in facts.items() if name not in ("id", "photo")}
        text = content.decode().strip()
        return {"class": int(text)} if kind == _CLASS else {"prompt": text}
    except ValueError as error:
        raise FileError(f"items: {member.name!r} of {str(member.tar)!r} must be what it is called: {error}") from error


@dataclass(frozen=True)
class _OfDataset:
    """A picture of a data set.

    Attributes:
        dataset: The data set.
        row: In which row it is.
        column: In which column.
    """

    dataset: Any
    row: int
    column: str

    def picture(self) -> Image.Image:
        found = self.dataset[self.row][self.column]
        if not isinstance(found, Image.Image):
            kind = type(found).__name__
            raise ValueError(f"photo must be a picture, got {kind} in row {self.row} of column {self.column!r}")
        return found


def table_of_dataset(source: Mapping[str, Any], root: Path) -> tuple[Any, Any]:
    """A table of a data set of ``datasets``, and what gives the picture of a row.

    Args:
        source: ``dataset``, a name on the hub or a folder of ``save_to_disk``; ``config``; ``split``; and which of its
            columns are ``id``, ``photo``, ``prompt``, ``seed`` and ``class``, where these are called otherwise.
        root: Folder that a relative folder begins in.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If a key is unknown, or there is no such column.
    """
    for key in source:
        if key not in DATASET_KEYS:
            raise ValueError(f"items: keys of a data set must be among {sorted(DATASET_KEYS)}, got {shown(key)}")
    given = {key: check_text("items", f"'items.{key}'", value) for key, value in source.items()}
    if "dataset" not in given:
        raise ValueError("items: 'items.dataset' must be a name or a folder, got none")
    if importlib.util.find_spec("datasets") is None:
        raise ImportError("items of a data set need datasets, which is not installed: pip install datasets")
    import datasets

    folder = root / Path(given["dataset"]).expanduser()
    if folder.is_dir() and ((folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists()):
        found = _part_of(datasets.load_from_disk(str(folder)), given.get("split"))
    else:
        name = str(folder) if folder.exists() else given["dataset"]
        found = datasets.load_dataset(name, given.get("config"), split=given.get("split", "train"))
    if not isinstance(found, datasets.Dataset):
        raise ValueError(f"items: 'items.split' must name a part of the data set, got {given.get('split', 'none')!r}")
    return _columns_of(found, {key: given.get(key, key) for key in DATASET_KEYS[3:] if key in given}, datasets.Image)


def _part_of(saved: Any, split: str | None) -> Any:
    """A part of what lies in a folder, by its name; what is no part itself where none is named."""
    import datasets

    if split is None:
        return saved
    parts = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "all"): saved}
    if split not in parts:
        raise ValueError(f"items: 'items.split' must name a part of the data set, one of {list(parts)}, got {split!r}")
    return parts[split]


def _columns_of(dataset: Any, named: dict[str, str], image: type) -> tuple[Any, Any]:
    """Columns by the names that a run has for them, without the pictures; these are told by their rows."""
    for key, column in named.items():
        if column not in dataset.column_names:
            raise ValueError(f"items: 'items.{key}' must be one of {dataset.column_names}, got {column!r}")
    pictures = [name for name, feature in dataset.features.items() if isinstance(feature, image)]
    photo = named.get("photo", pictures[0] if pictures else None)
    if photo is not None and photo not in pictures:
        raise ValueError(f"items: 'items.photo' must be a column of pictures, one of {pictures}, got {photo!r}")
    import pyarrow

    rest = dataset.remove_columns(pictures)
    table = rest.with_format("arrow")[:] if rest.column_names else pyarrow.table({})
    names = {column: key for key, column in named.items()}
    columns = {names.get(name, name): table.column(name) for name in table.column_names}
    if photo is None:
        return pyarrow.table(columns), lambda row: None
    columns["photo"] = pyarrow.array([f"{photo}/{row}" for row in range(len(dataset))], "string")
    return pyarrow.table(columns), lambda row: _OfDataset(dataset, row, photo)
