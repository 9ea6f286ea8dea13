"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import sys
import warnings
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


def run() -> None:
    """Run the application; errors a user can mend become one line and exit status 2."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *args, **kwargs: print(f"warning: {message}", file=sys.stderr)
            app()
    except (ValueError, TypeError, OSError, ImportError, latentjac.LoadError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
