"""The ways of noisy samples down to clean ones: by the network alone, or helped by those of an edit beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from latentjac.diffusion.denoise import last, predictor
from latentjac.diffusion.loops import down
from latentjac.editing.methods.method import Job
from latentjac.editing.predicted import MOST_BYTES, Nodes, Predicted, SetRight
from latentjac.editing.questions import Answer, Asking, Question
from latentjac.models import Conditioning, Prediction

if TYPE_CHECKING:
    from latentjac.editing.result import Edit


def way_down(job: Job, x: torch.Tensor, bar: tqdm | None = None) -> Asking[tuple[torch.Tensor, Predicted | None]]:
    """Clean samples of noisy ones at the point, and what was predicted on the way; None where that is too much."""
    schedule = job.schedule
    levels = tuple(level for level in range(job.level, 0, -1) if not schedule.same(level, level - 1))
    kept = len(levels) * x.numel() * x.element_size() <= MOST_BYTES

    def answer(x: torch.Tensor, under: Conditioning) -> Answer:
        evaluate, found = predictor(job.model, schedule, under), []

        def predict(x: torch.Tensor, level: int) -> Prediction:
            found.append(evaluate(x, level))
            return found[-1]

        clean = last(down(x, schedule, job.level, predict if kept else evaluate, bar=bar))
        return (clean, torch.stack([each.x0 for each in found], 1)) if kept else (clean,)

    clean, *x0 = yield Question(answer, ("down", job.level, schedule, kept), (x,), job.point.conditioning, last=True)
    return clean, Predicted(levels, x0[0]) if x0 else None


def way_between(job: Job, x: torch.Tensor, about: Predicted, bar: tqdm) -> torch.Tensor:
    """Clean samples of noisy ones at the point, on whose ways something like this will be predicted."""
    predict = SetRight(predictor(job.model, job.schedule, job.point.conditioning), job.schedule, about)
    return last(down(x, job.schedule, job.level, predict, bar=bar))


def nodes_of(edit: Edit, direction: int) -> Nodes | None:
    """The samples along a direction whose ways down the edit keeps; None of composed directions, which have one."""
    if edit.predicted is None or edit.composed:
        return None
    distances, x0, levels = edit.distances, edit.predicted.x0[direction], edit.predicted.levels
    if edit.unmoved is not None:
        distances, x0 = (0.0, *distances), torch.cat([edit.unmoved.x0, x0])
    return Nodes.sorted(distances, Predicted(levels, x0))
