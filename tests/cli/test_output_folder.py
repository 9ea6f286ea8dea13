"""The folder of a run: nothing of the user's is touched, and a run is there whole or the older one is."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from latentjac import files
from latentjac.cli import output_folder
from latentjac.cli.output_folder import FINISHED, LOCK, UNFINISHED, OutputFolder
from latentjac.cli.run_folder import RunFolder

pytest.importorskip("typer")


def write_run(out: Path, pictures: dict[str, str], **inputs: Path) -> None:
    """A run that draws pictures of one colour."""
    with RunFolder(out, "test", {"out": out, **inputs}) as run:
        for name, colour in pictures.items():
            run.picture(name, "a picture", Image.new("RGB", (2, 2), colour))
        run.finish()


def colours(out: Path) -> dict[str, tuple]:
    return {path.name: Image.open(path).getpixel((0, 0)) for path in sorted(out.glob("*.png"))}


def is_run(out: Path, names: set[str]) -> bool:
    """Whether exactly these pictures are there, with a record and a page of them."""
    record = json.loads((out / "run.json").read_text())
    everything = {*names, "index.html", "run.json"}
    page = (out / "index.html").read_text()
    return (
        set(os.listdir(out)) == everything
        and set(record["files"]) == everything
        and record["sha256"].keys() == everything - {"run.json"}
        and all(name in page for name in everything)
    )


@pytest.fixture
def older(tmp_path) -> Path:
    out = tmp_path / "out"
    write_run(out, {"a.png": "red", "b.png": "red"})
    return out


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_a_run_replaces_the_older_one_whole(older) -> None:
    assert is_run(older, {"a.png", "b.png"})
    write_run(older, {"b.png": "blue", "c.png": "blue"})
    assert is_run(older, {"b.png", "c.png"})
    assert colours(older) == {"b.png": BLUE, "c.png": BLUE}


def test_the_older_run_stays_until_the_new_one_is_finished(older) -> None:
    before = {path: path.read_bytes() for path in older.iterdir()}
    with RunFolder(older, "test", {}) as run:
        run.picture("a.png", "a picture", Image.new("RGB", (2, 2), "blue"))
        assert {path: path.read_bytes() for path in older.iterdir() if path in before} == before
    assert {path: path.read_bytes() for path in older.iterdir()} == before


def test_what_a_failed_run_made_is_gone(tmp_path) -> None:
    with RunFolder(tmp_path / "a" / "b" / "out", "test", {}) as run:
        run.picture("a.png", "a picture", Image.new("RGB", (2, 2)))
        assert os.listdir(tmp_path) == ["a"]
    assert not os.listdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with RunFolder(tmp_path / "mine", "test", {}):
        pass
    assert os.listdir(tmp_path) == ["mine"]


FOREIGN = {
    "a page": lambda out: (out / "page.html").write_text("mine"),
    "a picture": lambda out: (out / "z.png").write_bytes(b"mine"),
    "a folder": lambda out: (out / "folder").mkdir(),
    "a hidden file": lambda out: (out / ".htaccess").write_text("mine"),
    "a link": lambda out: (out / "link.png").symlink_to("a.png"),
    "a file of ours, changed": lambda out: (out / "a.png").write_bytes(b"mine"),
    "a file of ours, now a link": lambda out: ((out / "a.png").unlink(), (out / "a.png").symlink_to("b.png")),
    "a temporary file of others": lambda out: (out / ".thesis.docx.999999.part").write_text("mine"),
    "no record": lambda out: (out / "run.json").unlink(),
    "a record of others": lambda out: (out / "run.json").write_text('{"name": "sprint"}'),
    "a record that is damaged": lambda out: (out / "run.json").write_text('{"command": "edit", "files": {"a.png": 1'),
    "a record that is nested": lambda out: (out / "run.json").write_text("[" * 10_000),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_with_anything_else_is_refused_and_kept(older, kind: str) -> None:
    FOREIGN[kind](older)
    before = {path.name: path.is_file() and path.read_bytes() for path in older.iterdir()}
    with pytest.raises(ValueError, match="--out: expected a new or empty folder, or one with nothing but an older run"):
        write_run(older, {"a.png": "blue"})
    assert {path.name: path.is_file() and path.read_bytes() for path in older.iterdir()} == before


def test_records_that_name_what_is_not_in_the_folder(tmp_path) -> None:
    """A record is no leave to remove files elsewhere, or of kinds that no run writes."""
    out, thesis = tmp_path / "out", tmp_path / "thesis.png"
    out.mkdir()
    thesis.write_text("mine")
    names = ["../thesis.png", str(thesis), "", ".", "..", ".hidden.png", "a\0.png", "notes.txt", "sub/a.png"]
    (out / "run.json").write_text(json.dumps({"command": "edit", "files": dict.fromkeys(names, "x")}))
    write_run(out, {"a.png": "blue"})
    assert is_run(out, {"a.png"})
    assert thesis.read_text() == "mine"
    (out / "run.json").write_text(json.dumps({"command": "edit", "files": {"notes.txt": "x"}}))
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        write_run(out, {"a.png": "blue"})


def test_runs_of_versions_without_checksums(older) -> None:
    record = json.loads((older / "run.json").read_text())
    del record["sha256"]
    (older / "run.json").write_text(json.dumps(record))
    write_run(older, {"c.png": "blue"})
    assert is_run(older, {"c.png"})


def test_what_file_managers_leave_is_left_alone(older) -> None:
    (older / ".DS_Store").write_text("x")
    write_run(older, {"c.png": "blue"})
    assert (older / ".DS_Store").read_text() == "x"


@pytest.mark.parametrize("kind", ["itself", "a hard link", "a link to it", "another spelling"])
def test_an_input_is_never_written_over(older, tmp_path, kind: str, monkeypatch) -> None:
    """Not even a file of an older run."""
    photo = older / "a.png"
    if kind == "a hard link":
        photo = tmp_path / "photo.png"
        photo.hardlink_to(older / "a.png")
    elif kind == "a link to it":
        photo = tmp_path / "photo.png"
        photo.symlink_to(older / "a.png")
    elif kind == "another spelling":
        monkeypatch.chdir(older)
        photo = Path("../out/./a.png")
    before = photo.read_bytes()
    with pytest.raises(ValueError, match=r"--out: expected a folder without the files that the run reads.*holds photo"):
        write_run(older, {"a.png": "blue"}, photo=photo)
    assert photo.read_bytes() == before
    assert is_run(older, {"a.png", "b.png"})


def test_a_second_run_at_once_is_refused(older) -> None:
    with RunFolder(older, "test", {}), pytest.raises(ValueError, match="where another run works"):
        RunFolder(older, "test", {})
    write_run(older, {"c.png": "blue"})
    assert is_run(older, {"c.png"})


def test_a_second_run_at_once_is_refused_where_nothing_can_be_locked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    out = tmp_path / "out"
    with RunFolder(out, "test", {}), pytest.raises(ValueError, match=r"if none does, remove .*latentjac-unfinished"):
        RunFolder(out, "test", {})
    write_run(out, {"c.png": "blue"})
    assert is_run(out, {"c.png"})


def test_a_file_is_no_folder(tmp_path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="which is a file"):
        RunFolder(tmp_path / "out", "test", {})


def test_names_that_are_not_utf8(tmp_path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_run(out, {"a.png": "blue"}, photo=Path("/nowhere/\udce9.jpg"))
    assert is_run(out, {"a.png"})
    assert "\\udce9.jpg" in json.loads((out / "run.json").read_bytes().decode())["arguments"]["photo"]


@pytest.mark.parametrize("place", ["a picture", "the page", "the record"])
def test_a_full_disk_names_the_file_and_keeps_the_older_run(older, monkeypatch, place: str) -> None:
    name = {"a picture": "c.png", "the page": "index.html", "the record": "run.json"}[place]
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    whole = files._part_of

    def full(target: Path) -> Iterator[Path]:
        if target.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(target)

    monkeypatch.setattr(files, "_part_of", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_run(older, {"a.png": "blue", "c.png": "blue"})
    assert Path(caught.value.filename).name == name
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before


def test_no_permission_is_noticed_at_the_start(tmp_path, monkeypatch) -> None:
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(PermissionError):
        RunFolder(tmp_path / "out", "test", {})
    assert not os.listdir(tmp_path / "out")


class KilledError(BaseException):
    """Stands for the end of the process: nothing after it is done."""


def stopped_run(out: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """A run whose process ends after some moves of files into place."""
    done = 0
    move = os.replace

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        if Path(source).parent.name == FINISHED:
            if done == moves:
                raise KilledError
            done += 1
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(output_folder.os, "replace", replace)
        with pytest.raises(KilledError):
            write_run(out, {"b.png": "blue", "c.png": "blue"})


@pytest.mark.parametrize("moves", range(4))
def test_a_run_that_was_killed_while_it_moved_is_moved_by_the_next(older, monkeypatch, moves: int) -> None:
    stopped_run(older, monkeypatch, moves)
    assert (older / FINISHED).is_dir()
    OutputFolder(older, {}).close()
    assert colours(older) == {"b.png": BLUE, "c.png": BLUE}
    assert is_run(older, {"b.png", "c.png"})


def test_a_finished_run_waits_where_something_else_came_in_between(older) -> None:
    with RunFolder(older, "test", {}) as run:
        run.picture("c.png", "a picture", Image.new("RGB", (2, 2), "blue"))
        (older / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match=r"holds notes.txt; what the last run wrote waits in .*latentjac-finished"):
            run.finish()
    assert (older / FINISHED / "c.png").exists()
    assert colours(older) == {"a.png": RED, "b.png": RED}
    (older / "notes.txt").unlink()
    RunFolder(older, "test", {}).__exit__()
    assert is_run(older, {"c.png"})


def test_temporary_files_of_older_versions(older) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getpid(), 10**30):
        (older / f".a.png.{process}.part").write_text("x")
    write_run(older, {"c.png": "blue"})
    assert {name for name in os.listdir(older) if name.endswith(".part")} == {f".a.png.{os.getpid()}.part"}


KILLED = """
import sys, time
from pathlib import Path
from PIL import Image
from latentjac.cli.app import _ending_well
from latentjac.cli.run_folder import RunFolder
with _ending_well(), RunFolder(Path(sys.argv[1]), "test", {}) as run:
    run.picture("a.png", "a picture", Image.new("RGB", (2, 2), "blue"))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_the_older_run_and_no_lock(older, number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, older], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(ValueError, match="where another run works"):
        RunFolder(older, "test", {})
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGKILL else 128 + number)
    assert colours(older) == {"a.png": RED, "b.png": RED}
    rests = {UNFINISHED, LOCK} if number == signal.SIGKILL else set()
    assert set(os.listdir(older)) == {"a.png", "b.png", "index.html", "run.json"} | rests
    write_run(older, {"c.png": "blue"})
    assert is_run(older, {"c.png"})


def test_a_link_in_the_place_of_our_folder_is_not_followed(tmp_path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    mine.mkdir()
    (mine / "a.png").write_text("mine")
    (out / UNFINISHED).symlink_to(mine)
    with pytest.raises(FileExistsError):
        write_run(out, {"a.png": "blue"})
    assert (mine / "a.png").read_text() == "mine"
