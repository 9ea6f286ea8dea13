"""The studies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latentjac.studies.finding import Finding


@dataclass(frozen=True)
class Study:
    """A question that can be put to a model.

    Attributes:
        name: As the command line calls it.
        question: In one line.
        run: ``run(model, settings, progress=False)``; a study of several models takes a sequence of them.
        several: It compares models and takes a sequence of at least two.
        text: It needs a model with text.
    """

    name: str
    question: str
    run: Callable[..., Finding]
    several: bool = False
    text: bool = False


def _study(name: str, question: str, **kind: bool) -> Study:
    """The study of a module, which is imported when it runs: names and questions are asked for without torch."""

    def run(*arguments: Any, **options: Any) -> Finding:
        return import_module(f"latentjac.studies.{name.replace('-', '_')}").run(*arguments, **options)

    return Study(name, question, run, **kind)


STUDIES = {
    study.name: study
    for study in (
        _study(
            "coarse-to-fine",
            "Do directions change coarse structure where noise is strong and fine detail where it is weak?",
        ),
        _study("rank", "To how few directions does the network listen, and at which noise level to the fewest?"),
        _study("linearity", "How far along a direction is the network what its Jacobian says?"),
        _study("samples", "Do the tangent spaces of different samples part as noise falls?"),
        _study("timesteps", "Does the tangent space of a sample turn away as timesteps part?"),
        _study("complexity", "Do tangent spaces change less over timesteps where the data are simpler?", several=True),
        _study("transport", "Is a direction carried better to a sample whose tangent space is closer?"),
        _study("prompts", "Does the influence of text fade as noise falls?", text=True),
    )
}
