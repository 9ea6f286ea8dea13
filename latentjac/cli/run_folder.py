"""What a command did: its files, and the record of the run."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from PIL import Image

from latentjac.cli.output_folder import RECORD, OutputFolder, checksums
from latentjac.cli.pictures import Pictures
from latentjac.files import write_bytes
from latentjac.report import run_page, versions, write_json, write_png

_PAGE = "index.html"


def open_run(context: typer.Context, path: Path, command: str, arguments: dict[str, Any]) -> RunFolder:
    """The folder of a command; what is not finished when the command ends is gone then.

    Args:
        context: Of the command.
        path: The folder.
        command: Name of the command.
        arguments: What it got, among them the context.
    """
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        if value is not context:
            given |= vars(value) if isinstance(value, Pictures) else {name: value}
    return context.with_resource(RunFolder(path, command, given))


class RunFolder:
    """Collects what a run did and writes its files; they appear together when it is finished.

    Args:
        path: The folder. Nothing else may be in it but an older run, which stays until this one is finished.
        command: Name of the command.
        arguments: What it got; paths other than ``out`` are files that it reads.

    Raises:
        ValueError: If the folder cannot be this run's; see :class:`latentjac.cli.output_folder.OutputFolder`.
        OSError: If it cannot be made or written.
    """

    def __init__(self, path: Path, command: str, arguments: dict[str, Any]) -> None:
        inputs = {name: value for name, value in arguments.items() if isinstance(value, Path) and name != "out"}
        self._folder = OutputFolder(path, inputs)
        self.path = path
        self.files: list[tuple[str, str]] = []
        self.sliders = ""  # HTML of the page
        self.record: dict[str, Any] = {
            "command": command,
            "command_line": shlex.join(["latentjac", *sys.argv[1:]]),
            "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()},
            "versions": versions(),
            "seconds": {},
        }

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.close()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage and say on stderr that it began."""
        print(f"{stage} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.record["seconds"][stage] = round(time.perf_counter() - start, 3)

    def target(self, name: str, what: str) -> Path:
        """Announce a file; the caller writes it to the path that comes back."""
        self.files.append((name, what))
        return self._folder.staging / name

    def picture(self, name: str, what: str, image: Image.Image) -> None:
        """Write a PNG."""
        write_png(self.target(name, what), image)

    def finish(self) -> None:
        """Write the page of the run and ``run.json``, and print where everything is."""
        self.record["seconds"]["total"] = round(sum(self.record["seconds"].values()), 3)
        page = self.target(_PAGE, "all of it on one page, for a browser")
        record = self.target(RECORD, "arguments, seeds, versions, timings, residuals")
        self.record["files"] = dict(self.files)
        write_bytes(page, run_page(self.record, self.files, self.sliders).encode(errors="backslashreplace"))
        self.record["sha256"] = checksums(self._folder.staging)
        write_json(record, self.record)
        self._folder.finish()
        width = max(len(name) for name, _ in self.files)
        print(f"\nWrote to {self.path}/")
        for name, what in self.files:
            print(f"  {name:<{width}}  {what}")
