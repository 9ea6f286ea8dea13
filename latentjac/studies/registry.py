"""The studies by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from latentjac.studies.finding import Finding

if TYPE_CHECKING:
    from latentjac.models import Model
    from latentjac.studies.settings import Settings


@dataclass(frozen=True)
class Study:
    """A question that can be put to a model.

    Attributes:
        name: As the command line calls it.
        question: In one line.
        run: ``run(model, settings, progress=False)``; a study of several models has a sequence ``models`` of them.
        several: It compares models and takes a sequence of at least two.
        text: It needs a model with text.
    """

    name: str
    question: str
    run: Callable[..., Finding]
    several: bool = False
    text: bool = False


def _study(name: str, question: str, *, several: bool = False, text: bool = False) -> Study:
    """The study of a module, which is imported when it runs: names and questions are asked for without torch."""

    def imported() -> Callable[..., Finding]:
        study: Callable[..., Finding] = import_module(f"latentjac.studies.{name.replace('-', '_')}").run
        return study

    def run_one(model: Model, settings: Settings, progress: bool = False) -> Finding:
        return imported()(model, settings, progress)

    def run_several(models: Sequence[Model], settings: Settings, progress: bool = False) -> Finding:
        return imported()(models, settings, progress)

    return Study(name, question, run_several if several else run_one, several, text)


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
