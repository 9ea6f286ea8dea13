"""The studies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latentjac.study import coarse_to_fine, complexity, linearity, prompts, rank, samples, timesteps, transport
from latentjac.study.finding import Finding


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


STUDIES = {
    study.name: study
    for study in (
        Study(
            coarse_to_fine.NAME,
            "Do directions change coarse structure where noise is strong and fine detail where it is weak?",
            coarse_to_fine.run,
        ),
        Study(
            rank.NAME,
            "To how few directions does the network listen, and at which noise level to the fewest?",
            rank.run,
        ),
        Study(linearity.NAME, "How far along a direction is the network what its Jacobian says?", linearity.run),
        Study(samples.NAME, "Do the tangent spaces of different samples part as noise falls?", samples.run),
        Study(timesteps.NAME, "Does the tangent space of a sample turn away as timesteps part?", timesteps.run),
        Study(
            complexity.NAME,
            "Do tangent spaces change less over timesteps where the data are simpler?",
            complexity.run,
            several=True,
        ),
        Study(
            transport.NAME, "Is a direction carried better to a sample whose tangent space is closer?", transport.run
        ),
        Study(prompts.NAME, "Does the influence of text fade as noise falls?", prompts.run, text=True),
    )
}
