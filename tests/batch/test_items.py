"""Items from folders, lists and tables, and which shard has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from latentjac import batch
from latentjac.batch.items import Item, read_items

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def of(source: Any, root: Path) -> list[Item]:
    return list(read_items(source, root))


def test_a_folder_gives_its_pictures_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "deep/er/c.webp", ".hidden.png", ".git/d.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    items = of("photos", tmp_path)
    assert [item.id for item in items] == ["a.JPG", "b.png", "deep/er/c.webp"]
    assert items[2].photo == tmp_path / "photos/deep/er/c.webp"


def test_pictures_that_a_command_wrote_are_no_items(tmp_path: Path) -> None:
    """A second start does not take those of the first one."""
    for name in ("a.png", "run/index.png", "run/pictures/b.png", "run/run.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert [item.id for item in of(".", tmp_path)] == ["a.png"]
    assert [item.id for item in of("run", tmp_path)] == ["index.png", "pictures/b.png"]


def test_links_are_followed_but_in_no_circle(tmp_path: Path) -> None:
    """A picture that is reached in two ways is two items; one that is gone is an item that fails."""
    for name in ("photos/a.png", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/self").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/gone.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "photos/me.png").symlink_to(tmp_path / "photos/me.png")
    assert [item.id for item in of("photos", tmp_path)] == ["a.png", "gone.png", "me.png", "more/b.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its photos would be missing silently."""
    (tmp_path / "photos" / "private").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    real = os.scandir

    def scanned(folder: Any) -> Any:
        if Path(folder).name == "private":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scanned)
    with pytest.raises(ValueError, match=r"items: folder '.*private' must be readable, got Permission denied"):
        of("photos", tmp_path)


def test_names_may_be_long_and_of_any_letters(tmp_path: Path) -> None:
    names = sorted(
        ["ä ö.png", "a\nb.png", 'it\'s "one".png', f"{'x' * 250}.png", f"{'y' * 200}/{'y' * 200}/{'z' * 200}.png"]
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [item.id for item in of(".", tmp_path)] == names


def test_a_list_of_files(tmp_path: Path) -> None:
    items = of(["a.png", str(tmp_path / "b.png")], tmp_path / "root")
    assert [item.photo for item in items] == [tmp_path / "root/a.png", tmp_path / "b.png"]


LINES = (
    '{"photo": "a.png", "prompt": "a face", "seed": 3, "class": 7, "weight": 1, "tag": "x", "more": [1]}\n'
    '\n{"id": "second", "seed": 4, "weight": 2.5, "more": {"k": null}}\n'
)


def test_lines_with_own_columns(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(LINES.replace('"photo"', '"id": "first", "photo"'))
    first, second = of("items.jsonl", tmp_path)
    assert first == Item("first", tmp_path / "a.png", "a face", 3, 7, {"weight": 1.0, "tag": "x", "more": "[1]"})
    assert second == Item("second", None, None, 4, None, {"weight": 2.5, "tag": None, "more": '{"k": null}'})


def test_ids_by_default_are_photos_and_else_numbers_of_rows(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"photo": "a.png"}\n{"seed": 4}\n')
    assert [item.id for item in of("items.jsonl", tmp_path)] == ["a.png", "2"]


def test_a_parquet_table(tmp_path: Path) -> None:
    table = pa.table({"id": [10, 11], "seed": pa.array([0, 2**40], "uint64"), "own": pa.array([1.5, None])})
    parquet.write_table(table, tmp_path / "items.parquet")
    assert [(item.id, item.seed, item.own) for item in of("items.parquet", tmp_path)] == [
        ("10", 0, {"own": 1.5}),
        ("11", 2**40, {"own": None}),
    ]


def test_texts_in_the_layout_of_views(tmp_path: Path) -> None:
    """Arrow cannot take rows of them."""
    note, raw = pa.array(["a", None], pa.string_view()), pa.array([b"x", b"y"], pa.binary_view())
    parquet.write_table(pa.table({"seed": [1, 2], "note": note, "raw": raw}), tmp_path / "items.parquet")
    first, second = (item.own for item in of("items.parquet", tmp_path))
    assert (first, second) == ({"note": "a", "raw": b"x"}, {"note": None, "raw": b"y"})


def test_columns_that_are_nearly_called_as_known_ones_are_told(tmp_path: Path) -> None:
    """Pictures would be inverted without the prompts."""
    (tmp_path / "items.csv").write_text("photo,Prompt\na.png,a face\n")
    with pytest.warns(UserWarning, match="column 'Prompt' is carried through, .* is called 'prompt'"):
        (item,) = of("items.csv", tmp_path)
    assert (item.prompt, item.own) == (None, {"Prompt": "a face"})


def test_a_table_of_commas(tmp_path: Path) -> None:
    text = '\ufeffid,photo,seed,prompt,own,NA\n007,a.png,,"a face,\nlaughing",1.5,NA\n8,,3,,,x\n'
    (tmp_path / "items.csv").write_text(text)
    first, second = of("items.csv", tmp_path)
    assert first == Item("007", tmp_path / "a.png", "a face,\nlaughing", None, None, {"own": 1.5, "NA": "NA"})
    assert second == Item("8", None, None, 3, None, {"own": None, "NA": "x"})


def test_whole_numbers_that_are_floats_and_missing_ones(tmp_path: Path) -> None:
    """As pandas writes a column of whole numbers with gaps."""
    table = pa.table({"photo": ["a.png", None], "seed": [float("nan"), 3.0], "class": [2.0, float("nan")]})
    parquet.write_table(table, tmp_path / "items.parquet")
    assert [(item.seed, item.label) for item in of("items.parquet", tmp_path)] == [(None, 2), (3, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"seed": 1}\n{"seed"', "line 2 of .*a.jsonl' must be JSON"),
        ("a.jsonl", "[1]", "line 1 of .* must be a JSON object, got list"),
        ("a.jsonl", "", "there must be at least one, got none"),
        ("a.jsonl", '{"id": "x", "seed": 1}\n{"id": "x", "seed": 2}', "every id must be there once, got 'x' twice"),
        ("a.jsonl", '{"prompt": "x"}', "each must have a photo or a seed, got '1' without both"),
        ("a.jsonl", '{"seed": -1}', "'seed' in row 1 of .* must be a whole number from 0 to"),
        ("a.jsonl", '{"seed": 1.5}', "'seed' in row 1 of .* must be a whole number"),
        ("a.jsonl", '{"seed": 1}\n{"seed": "2"}', r"column 'seed' of .* must be of one kind, got \['int', 'str'\]"),
        ("a.jsonl", '{"photo": 1}', "'photo' in row 1 of .* must be a text, got 1"),
        ("a.jsonl", '{"id": "", "seed": 1}', "'id' in row 1 of .* must be a text of at most 4096 characters, got ''"),
        ("a.jsonl", '{"id": "a", "seed": 1}\n{"seed": 2}', "'id' in row 2 of .* must be a text of .*, got None"),
        ("a.parquet", "no", "must be a Parquet file"),
        ("a.jsonl", '{"image": "a.png"}', r"got '1' without both; columns with values are \['id', 'image'\]"),
        ("a.csv", "", "must be a CSV file in UTF-8, got Empty CSV"),
        ("a.csv", "seed\n", "there must be at least one, got none"),
        ("a.csv", "seed\none", "'seed' in row 1 of .* must be a whole number from 0 to"),
        ("a.csv", "seed\n1,2", "must be a CSV file in UTF-8, got .*Expected 1 columns, got 2"),
        ("a.csv", "seed,seed\n1,2", "columns of .* must have different names, got 'seed' twice"),
        ("a.txt", "seed\n1", r"'items' must be a folder, a table \(.jsonl, .csv, .parquet\), a .tar file or a list"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"^items: .*{message}"):
        of(name, tmp_path)


def test_sources_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'items' must be a folder, a table or a list of picture files, got int"):
        of(3, tmp_path)
    for entry in ({"photo": "a.png", "prompt": "a face"}, 3, None):
        with pytest.raises(TypeError, match=r"'items\[1\]' must be a picture file; rows of a table go into a file"):
            of(["a.png", entry], tmp_path)
    with pytest.raises(FileNotFoundError, match="path must be an existing file"):
        of("missing.jsonl", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold pictures"):
        of("empty", tmp_path)


def test_own_columns_must_not_be_those_of_results(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"seed": 1, "status": "new"}\n')
    with pytest.raises(ValueError, match="own columns must not be called as those of results, got 'status'"):
        batch.Run({"items": str(tmp_path / "items.jsonl")}, tmp_path / "run", shard="1/1")


def test_shards_divide_all_items_whatever_they_are() -> None:
    ids = [f"photo {i}.jpg" for i in range(1000)]
    for count in (1, 2, 7):
        shards = [batch.Shard(i + 1, count) for i in range(count)]
        assert all(sum(id in shard for shard in shards) == 1 for id in ids)
        assert all(abs(sum(id in shard for id in ids) - 1000 / count) < 100 for shard in shards)
    assert "photo 0.jpg" in batch.Shard(2, 2)  # the same on every machine: ids in folders of today stay valid


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "1/1"),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, "4/8"),
        ({"SLURM_ARRAY_TASK_ID": "10", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "6",
          "SLURM_ARRAY_TASK_STEP": "2"}, "3/3"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "2/4"),
        ({"RANK": "1", "WORLD_SIZE": "4", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, "10/12"),
        ({"RANK": "1"}, "1/1"),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, "3/4"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "1/1"),  # of the script of a job, which is one process
        ({"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "6/8"),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"},
         "6/6"),
    ],
)  # fmt: skip
def test_shards_of_slurm_and_torchrun(environment: dict[str, str], expected: str) -> None:
    assert str(batch.Shard.from_environment(environment)) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "4"}, "variable RANK must be a whole number, got 'x'"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "must name one of at most 9999 shards, got 5/4"),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "20000"}, "got 2/20000"),
    ],
)
def test_variables_that_do_not_fit(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch.Shard.from_environment(environment)


def test_names_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'items\[0\]' must be text without NUL and lone surrogates"):
        of(["a\udcff.png"], tmp_path)
    (tmp_path / "a\udcff.png").write_bytes(b"")
    with pytest.raises(ValueError, match="names of files must be UTF-8"):
        of(".", tmp_path)
