"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

import latentjac
from latentjac.cli import study
from latentjac.cli.basis import basis
from latentjac.cli.demo import demo
from latentjac.cli.edit import edit
from latentjac.cli.info import info
from latentjac.cli.invert import invert

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which directions at this noisy image does a diffusion network listen to? "
    "Finds them as singular vectors of its Jacobian and edits photos along them.",
)

for command in (demo, edit, basis, invert):
    app.command()(command)
app.add_typer(study.app, name="study")
app.command()(info)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(latentjac.__version__)
        raise typer.Exit


@contextmanager
def _ending_well() -> Iterator[None]:
    """Leave no rests where the process is told to end; and print names that are not UTF-8 with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Not those that are ignored, as nohup asks for.
    mine = [kind for kind in kinds if signal.getsignal(kind) is signal.SIG_DFL]
    for kind in mine:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind in mine:
            signal.signal(kind, signal.SIG_DFL)


def run() -> None:
    """Run the application; errors a user can mend become one line and exit status 2."""
    try:
        with warnings.catch_warnings(), _ending_well():
            warnings.showwarning = lambda message, *args, **kwargs: print(f"warning: {message}", file=sys.stderr)
            app()
    except (ValueError, TypeError, OSError, ImportError, latentjac.LoadError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
