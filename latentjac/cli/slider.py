"""``latentjac slider``: directions with a calibrated scale, made from one photo and applied to others."""

from __future__ import annotations

import typer

from latentjac.cli.options import help_without_command
from latentjac.cli.slider_apply import apply
from latentjac.cli.slider_make import make

app = typer.Typer(
    rich_markup_mode=None,
    add_help_option=False,
    help="Directions with a scale: at value 1 every picture changes by the same stated amount, at -1 by as much the "
    "other way. A slider is one file, made from one photo and applied to any others.",
)
app.callback(invoke_without_command=True)(help_without_command)
app.command("make", short_help="Make a slider of a direction at a photo.")(make)
app.command("apply", short_help="Apply a slider to photos.")(apply)
