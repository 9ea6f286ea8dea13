"""The application: its commands, and what becomes of errors.

Nothing here imports torch, and no command does before it runs: help is there at once.
"""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

import latentjac
from latentjac.cli import slider, study
from latentjac.cli.basis import basis
from latentjac.cli.demo import demo
from latentjac.cli.edit import edit
from latentjac.cli.explore import explore
from latentjac.cli.info import info
from latentjac.cli.invert import invert
from latentjac.cli.options import Help, help_without_command
from latentjac.cli.refusals import Refusal, in_options, one_line
from latentjac.cli.run import run as run_command

app = typer.Typer(
    rich_markup_mode=None,  # colours take longer to import than all the rest
    add_completion=False,
    add_help_option=False,
    pretty_exceptions_enable=False,
    help="Which directions at this noisy image does a diffusion network listen to? "
    "Finds them as singular vectors of its Jacobian and edits photos along them.",
)

for command in (demo, explore, edit, basis, invert, run_command, info):
    # Given as such, the first line of a description is not cut short.
    app.command(command.__name__, short_help=str(command.__doc__).splitlines()[0])(command)
app.add_typer(slider.app, name="slider", short_help="Directions with a scale that means the same for every photo.")
app.add_typer(study.app, name="study", short_help="Put a question about its local geometry to a model.")

# Of typer, which has it from click or, since 0.29, from itself.
_UsageError: Any = typer.BadParameter.__base__


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    show_help: Help = False,
) -> None:
    if version:
        print(latentjac.__version__)
        raise typer.Exit
    help_without_command(context, show_help)


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
            warnings.showwarning = lambda message, *args, **kwargs: print(
                f"warning: {one_line(str(message))}", file=sys.stderr
            )
            status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except _UsageError as error:
        _fail(error.format_message())
    except (Refusal, ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        _fail(str(error) or type(error).__name__)
    except RuntimeError as error:
        if not _is_expected(error):
            raise
        _fail(str(error))
    if status == 130:
        print("interrupted", file=sys.stderr)
    sys.exit(status or 0)


def _is_expected(error: RuntimeError) -> bool:
    """Whether an error is about the model or the machine, and no defect."""
    import torch

    return isinstance(error, (latentjac.LoadError, latentjac.ConvergenceError, torch.OutOfMemoryError))


def _fail(message: str) -> NoReturn:
    print(f"error: {one_line(in_options(message))}", file=sys.stderr)
    sys.exit(2)
