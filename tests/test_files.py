"""Files are written whole or not at all, and read without trust."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from latentjac import files
from latentjac.files import FileError, open_file, read_json, write_bytes


def part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.latentjac.part")


def test_a_file_appears_whole_with_the_usual_permissions(tmp_path) -> None:
    path = tmp_path / "a.bin"
    old = os.umask(0o027)
    try:
        assert write_bytes(path, b"one") == path
    finally:
        os.umask(old)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o640)
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_names_as_long_as_file_systems_allow(tmp_path) -> None:
    path = tmp_path / ("n" * 255)
    write_bytes(path, b"x")
    assert os.listdir(tmp_path) == [path.name]


def test_links_are_written_through(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real/target")  # dangling at first
    for content in (b"new", b"again"):
        write_bytes(link, content)
        assert link.is_symlink()
        assert (tmp_path / "real" / "target").read_bytes() == content


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch) -> None:
    done: list[str] = []
    sync, move = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), sync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("move"), move(self, to))[1])
    write_bytes(tmp_path / "a", b"x")
    assert done == ["sync", "move", "sync"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "no folder"])
def test_targets_that_are_no_files_are_refused_and_kept(tmp_path, kind: str) -> None:
    path = tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path = path / "inside"
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match="target") as caught:
        write_bytes(path, b"x")
    assert caught.value.filename == str(path)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_read_only_folder_names_the_file(tmp_path, monkeypatch) -> None:
    def denied(*args: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError) as caught:
        write_bytes(tmp_path / "a", b"x")
    assert caught.value.filename == str(tmp_path / "a")


KILLED = """
import os, sys, time, types
from pathlib import Path
package = types.ModuleType("latentjac")  # without torch, whose import takes seconds
package.__path__ = [sys.argv[3]]
sys.modules["latentjac"] = package
from latentjac.files import write_bytes
sync = os.fsync
os.fsync = lambda fd: (print("writing", flush=True), time.sleep(float(sys.argv[2])), sync(fd))
write_bytes(Path(sys.argv[1]), b"theirs")
"""


def start_writer(path: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, path, str(seconds), Path(files.__file__).parent]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_what_a_killed_writer_left_is_removed(tmp_path) -> None:
    path = tmp_path / "a.bin"
    writer = start_writer(path, 60)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert os.listdir(tmp_path) == [part_of(path).name]
    write_bytes(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_writer_that_lives_is_waited_for(tmp_path) -> None:
    path = tmp_path / "a.bin"
    writer = start_writer(path, 0.5)
    write_bytes(path, b"ours")
    writer.wait()
    assert writer.returncode == 0
    assert path.read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_many_writers_of_one_file(tmp_path) -> None:
    path, contents = tmp_path / "a.bin", [bytes([i]) * 5000 for i in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            write_bytes(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_lies_in_the_way_is_neither_followed_nor_removed(tmp_path, kind: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.bin"
    victim.write_bytes(b"precious")
    if kind == "link":
        part_of(path).symlink_to(victim)
    else:
        os.mkfifo(part_of(path))
    with pytest.raises(OSError, match=r"a\.bin"):
        write_bytes(path, b"x")
    assert victim.read_bytes() == b"precious"
    assert len(os.listdir(tmp_path)) == 2


def test_without_locks_a_rest_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    path = tmp_path / "a.bin"
    write_bytes(path, b"x")
    part_of(path).write_bytes(b"")
    with pytest.raises(FileExistsError, match="is in the way; remove it"):
        write_bytes(path, b"y")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a pipe"])
def test_reading_takes_files_alone_and_never_waits(tmp_path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe") if kind != "pipe" else (tmp_path / "pipe").rename(path)
    start = time.monotonic()
    with pytest.raises(FileError, match="path must be a file"):
        open_file("load", path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "dangling"])
def test_files_that_are_not_there(tmp_path, name: str) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="path must be an existing file"):
        open_file("load", f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "must be JSON"),
        (b"\xff{}", "must be JSON"),
        (b"[]", "must hold a JSON object, got list"),
        (b'"text"', "must hold a JSON object, got str"),
        (b'{"a": NaN}', "finite numbers, got nan at a"),
        (b'{"a": -Infinity}', "finite numbers, got -inf at a"),
        (b'{"a": 1e999}', "finite numbers, got inf at a"),
        (b'{"a": 1, "a": 2}', "every key once, got 'a' twice"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "at most 64 deep"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "must be JSON"),
    ],
)
def test_json_is_read_strictly(tmp_path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        read_json("load", path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_json_has_a_largest_size(tmp_path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(FileError, match="at most 16777216 bytes"):
        read_json("load", path)
