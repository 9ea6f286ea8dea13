"""``python -m latentjac`` is the ``latentjac`` command."""

from latentjac.cli import main

main()
