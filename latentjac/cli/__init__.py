"""The ``latentjac`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors a user can mend become one line and exit status 2."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit("latentjac: the command line needs typer and matplotlib: pip install 'latentjac[cli]'")
    from latentjac.cli.app import run

    run()
