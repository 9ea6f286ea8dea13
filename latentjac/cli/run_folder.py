"""The folder a command writes into, with the record of the run."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.files import write_bytes
from latentjac.report import run_page, versions, write_json, write_png

_PAGE, _RECORD = "index.html", "run.json"


class RunFolder:
    """Collects what a run did and writes its files; ``run.json`` comes last, so it marks a finished run."""

    def __init__(self, path: Path, command: str, arguments: dict[str, Any]) -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out: expected a folder, got {str(path)!r}, which is a file")
        self.path = path
        self.files: list[tuple[str, str]] = []
        self.record: dict[str, Any] = {
            "command": command,
            "command_line": shlex.join(["latentjac", *sys.argv[1:]]),
            "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()},
            "versions": versions(),
            "seconds": {},
        }

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage and say on stderr that it began."""
        print(f"{stage} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.record["seconds"][stage] = round(time.perf_counter() - start, 3)

    def target(self, name: str, what: str) -> Path:
        """Announce a file; the caller writes it. The first one makes the folder and removes an older run's record."""
        if not self.files:
            self.path.mkdir(parents=True, exist_ok=True)
            for old in (_RECORD, _PAGE):
                (self.path / old).unlink(missing_ok=True)
        self.files.append((name, what))
        return self.path / name

    def picture(self, name: str, what: str, image: Image.Image) -> None:
        """Write a PNG."""
        write_png(self.target(name, what), image)

    def finish(self) -> None:
        """Write the page of the run and ``run.json``, and print where everything is."""
        self.record["seconds"]["total"] = round(sum(self.record["seconds"].values()), 3)
        page = self.target(_PAGE, "all of it on one page, for a browser")
        record = self.target(_RECORD, "arguments, seeds, versions, timings, residuals")
        self.record["files"] = dict(self.files)
        write_bytes(page, run_page(self.record, self.files).encode(errors="backslashreplace"))
        write_json(record, self.record)
        width = max(len(name) for name, _ in self.files)
        print(f"\nWrote to {self.path}/")
        for name, what in self.files:
            print(f"  {name:<{width}}  {what}")
