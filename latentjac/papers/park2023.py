"""What the published code of Park et al. computes: its noise levels, inversion, bases and edits (docs/park2023.md).

Park, Kwon, Choi, Jo, Uh: Understanding the Latent Space of Diffusion Models through the Lens of Riemannian Geometry.
NeurIPS 2023. Constants are those of the code and scripts of its repository, enkeejunior1/Diffusion-Pullback on GitHub.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_generator, check_int, check_left, check_number
from latentjac.diffusion import Point, Schedule, Trajectory, denoise, descend, place, predict_noise
from latentjac.diffusion.arguments import check_model
from latentjac.diffusion.denoise import last
from latentjac.diffusion.inversion import prepared, psnr
from latentjac.diffusion.loops import up
from latentjac.diffusion.schedule import check_steps
from latentjac.edit_options import DISTANCE, LARGEST_GAIN, MOST_STEPS
from latentjac.editing import XSpaceMethod
from latentjac.editing.arguments import set_checked
from latentjac.editing.diagnostics import Observer
from latentjac.editing.evaluations import Evaluations
from latentjac.editing.lines import Lines
from latentjac.editing.methods import ConstantGain, Job, Walked
from latentjac.editing.questions import Asking
from latentjac.editing.walk import Walks, walk
from latentjac.geometry import measure_linearity
from latentjac.geometry.local_basis import local_basis as any_local_basis
from latentjac.interrupts import raise_unseen
from latentjac.models.classes import Asked
from latentjac.models.schedulers import table_of
from latentjac.public import public_as
from latentjac.solvers import LocalBasis, SolverState, Subspace
from latentjac.solvers.building import calling
from latentjac.stopping import Bar

if TYPE_CHECKING:
    from latentjac.editing import Edit
    from latentjac.models import Conditioning, ImageInput, Model

LEAST_LEVELS = 3  # one step up, and one more down
NUM_INFERENCE_STEPS = 100
# Of the iteration: directions, largest change of an entry of v at its end, and two passes for each of 50 iterations.
K = 2
TOL = 1e-4
MAX_PASSES = 100
SOLVER = Subspace(stop="park2023", vectors="park2023")
# Of guidance: length of the probe in units of the sample, and the factor of the difference without and with text.
PROBE = 1.0
GAIN = 0.1
TEXT_GAIN = 1.0
NOISY_BELOW = 0.2  # fraction of T from which networks without text take stochastic steps down
NUM_STEPS = 16
FRAMES = 4  # parts that the frames divide a walk into

__all__ = ["Walk", "invert", "local_basis", "schedule"]


@public_as("park2023.schedule")
def schedule(scheduler: Any, num_inference_steps: int) -> Schedule:
    """Levels at the timesteps ``linspace(0, 1, num_inference_steps) (T - 1)``, the first of which is the clean one.

    The timesteps are fractional; the network gets them as they are, and signal and noise are those of the whole
    timestep below.

    Args:
        scheduler: Of diffusers, with ``alphas_cumprod``.
        num_inference_steps: How many levels, at least 3 and at most T.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are no such levels.
    """
    name = "park2023.schedule"
    table = table_of(name, scheduler)
    total = table.num_train_timesteps
    steps = check_steps(name, num_inference_steps, LEAST_LEVELS, total)
    # In float32, as published: which whole timestep is below some of them is decided by rounding.
    places = torch.linspace(0, 1, steps, dtype=torch.float32, device="cpu") * (total - 1)
    signals, noises, timesteps = table.placed(places.tolist())
    return Schedule(tuple(signals), tuple(noises), tuple(timesteps), total, steps)


@public_as("park2023.invert")
@torch.no_grad()
def invert(
    model: Model,
    image: ImageInput | list[ImageInput],
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    prompt: str | list[str] | None = None,
    *,
    negative_prompt: str = "",
    guidance_scale: float = 1.0,
    class_label: int | list[int] | None = None,
    negative_class_label: int | None = None,
    conditioning: Conditioning | None = None,
    progress: bool = False,
) -> Trajectory:
    """Invert images and go back, on the levels of :func:`schedule`.

    Up to the last level but one, by the noise predicted where each step begins; from there down as if it were the last.

    Args:
        model: The model.
        image: One or several pictures; see :meth:`PixelCodec.encode` for what is taken.
        num_inference_steps: Levels, at least 3 and at most T.
        prompt: Text, for models that take one, or one a picture; the empty text by default.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.conditioning`.
        class_label: Class, for models that take one, or one a picture; the null class by default.
        negative_class_label: Class that guidance leads away from; the null class by default.
        conditioning: A ready one instead of a prompt or a class.
        progress: Show a progress bar.

    Returns:
        Samples of the way back down at all levels, of which entry 0 is the reconstruction, and its PSNR.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the model takes no prompt or class and got one.
        KeyboardInterrupt: If Ctrl-C interrupted a basis before whose status was not read.
    """
    name = "park2023.invert"
    raise_unseen(name)
    check_model(name, model)
    progress = check_bool(name, "progress", progress)
    levels = schedule(model.scheduler, num_inference_steps)
    asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
    clean, under = prepared(name, model, image, asked, conditioning)

    def step(x: torch.Tensor, level: int) -> torch.Tensor:
        return levels.step(x, predict_noise(model, x, levels.timesteps[level - 1], under), level - 1, level)

    with Bar("inversion", 2 * levels.top - 1, shown=progress) as bar:
        noisy = last(up(clean, levels, step, end=levels.top - 1, bar=bar))
        samples = [x for _, x in descend(model, noisy, levels, levels.top, under, bar)][::-1]
    back, evaluations = samples[0], levels.top - 1
    return Trajectory(torch.stack(samples), levels, back, psnr(model, back, clean), evaluations, under)


@public_as("park2023.local_basis")
def local_basis(
    model: Model,
    point: Point,
    k: int = K,
    layer: str = "mid",
    *,
    max_seconds: float | None = None,
    backend: str = "auto",
    generator: torch.Generator | None = None,
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
    strict: bool = False,
) -> LocalBasis:
    """The directions that its subspace iteration finds at a point of its levels, when its rule stops it.

    The iteration begins with a random block of k, runs at least 12 and at most 50 times, and ends once no entry of v
    changes by more than 1e-4. Rows of v and s are those of its last svd; rows of u are one iteration older, of unit
    length, and not orthogonal. Residuals and certificate are true ones.

    Args:
        model: The model.
        point: From :func:`invert`; several samples are decomposed side by side.
        k: Number of directions.
        layer: Module name, ``"mid"`` (h-space), ``"eps"`` or ``"x0"``.
        max_seconds: Time after which the solver begins nothing new.
        backend: Backend of the linearization.
        generator: Source of the start block.
        callback: Called with the solver's state after each iteration; returning True stops.
        progress: Show a progress bar.
        strict: Raise when its rule did not stop the iteration.

    Returns:
        The basis, with model, layer and point in its metadata; the best so far after Ctrl-C.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, the point is none of its levels, or the layer is unknown.
        ConvergenceError: If ``strict`` and not stopped by the rule.
    """
    name = "park2023.local_basis"
    place(name, model, point)
    _check_levels(name, model, point)
    with calling(name):
        return any_local_basis(
            model,
            point,
            k,
            layer,
            tol=TOL,
            solver=SOLVER,
            max_passes=MAX_PASSES,
            max_seconds=max_seconds,
            backend=backend,
            generator=generator,
            callback=callback,
            progress=progress,
            strict=strict,
        )


@dataclass(frozen=True, kw_only=True)
class Walk(XSpaceMethod):
    """A method of :func:`latentjac.edit`: both ways along each direction, at a point of its levels.

    Steps are those of guidance with a constant gain, ``x <- x + gain [eps(x + v) - eps(x)]``, with images at every
    ``(num_steps + 1) // 4``-th. Distances in the result are signed numbers of steps; ``distance``, ``mask`` and
    ``compose`` of :func:`latentjac.edit` are left alone. Further options are those of
    :class:`latentjac.editing.XSpaceMethod`.

    Attributes:
        num_steps: Steps of a walk each way.
        gain: The gain; by default that of the scripts, 1 with text and 0.1 without.
        generator: Without text, source of the noise of the last steps; a CPU generator seeded with 0 by default.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    num_steps: int = NUM_STEPS
    gain: float | None = None
    generator: torch.Generator | None = None

    unit: ClassVar[str] = "steps of guidance"
    projects: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(
            self,
            num_steps=check_int("Walk", "num_steps", self.num_steps, 1, MOST_STEPS),
            gain=check_number("Walk", "gain", self.gain, 0, LARGEST_GAIN, optional=True),
        )
        check_generator("Walk", self.generator)

    def walk(self, job: Job) -> Asking[Walked]:
        """Walk every direction both ways and make images of frames at regular steps of the walks."""
        self._check(job)
        model, num_steps = job.model, self.num_steps
        layer, point = self.layer_in(model), job.point_under(self.prompt, self.class_label)
        rows = job.rows(point.sample)
        gain = self._gain_at(point)
        ways = rows.new_tensor([-1.0, 1.0]).repeat(len(rows))
        probes = (PROBE * ways).view(-1, *[1] * (rows.ndim - 1)) * rows.repeat_interleave(2, 0)
        frames = tuple(range(num_steps + 1))[:: max(1, (num_steps + 1) // FRAMES)]
        sides, steps = zip(*_columns(frames), strict=True)
        numbers = torch.arange(len(rows), device="cpu").repeat_interleave(2)[:, None]
        parts = tuple(step / num_steps for step in steps)
        lines = Lines(probes[:, None], ways[:, None], numbers, (-1.0, 1.0), sides, parts)
        evaluations = Evaluations(model, point, layer)
        walks = Walks(model, point, lines, num_steps, job.sigma, evaluations)
        linearity = observer = None
        if self.diagnostics:
            linearity = measure_linearity(model, point, rows, job.sigma, self.linearity_tolerance)
            observer = Observer(evaluations, point, job.sigma, len(probes), num_steps)
        with job.bar(num_steps + job.level) as bar:
            way = yield from walk(walks, ConstantGain(model, point, probes, gain), observer, bar, keep=frames)
            points = torch.stack(
                [way.samples[frames.index(step), :, side] for side, step in zip(sides, steps, strict=True)], 1
            )
            samples = self._finish(job, points.flatten(0, 1), bool(point.conditioning), bar)
        return Walked(
            samples=samples.view(points.shape),
            points=points,
            directions=rows,
            distances=tuple(float(step if side else -step) for side, step in zip(sides, steps, strict=True)),
            num_steps=num_steps,
            layer=layer,
            linearity=linearity,
            along=None if observer is None else observer.along(lines),
            gains=torch.full((num_steps, *points.shape[:2]), gain, dtype=torch.float64, device="cpu"),
        )

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Its frames are its images: there are none between them."""
        raise ValueError("walk_frames: edit must keep its way, got one with method=Walk(...); draw edit.images")

    def _check(self, job: Job) -> None:
        """Raise where the job leaves it a choice that it does not have."""
        given = {
            "distance": (job.distances, (DISTANCE,)),
            "mask": (None if job.mask is None else "one", None),
            "compose": (job.compose, False),
        }
        for name, (value, usual) in given.items():
            if value != usual:
                where = "with method=Walk(...), which has its own"
                raise ValueError(f"edit: {name} must be left out {where}, got {value}")
        _check_levels("edit", job.model, job.point)
        if job.point.conditioning:
            check_left("edit", "method.generator", self.generator, None, "with text, whose last steps take no noise")

    def _gain_at(self, point: Point) -> float:
        """The gain that a walk from a point takes."""
        if self.gain is not None:
            return self.gain
        return TEXT_GAIN if point.conditioning else GAIN

    def _finish(self, job: Job, points: torch.Tensor, text: bool, bar: tqdm) -> torch.Tensor:
        """Down to images; without text the last steps are stochastic."""
        noisy_below = 0 if text else job.schedule.level(t=NOISY_BELOW)
        generator = self.generator or torch.Generator().manual_seed(0)
        under = job.point.conditioning
        return denoise(
            job.model, points, job.schedule, job.level, under, bar, noisy_below=noisy_below, generator=generator
        )


def _check_levels(function: str, model: Model, point: Point) -> None:
    """Raise unless a point lies on these levels."""
    steps = point.num_inference_steps
    exist = LEAST_LEVELS <= steps <= model.num_train_timesteps
    if not exist or point.schedule != schedule(model.scheduler, steps):
        raise ValueError(f"{function}: point must come from park2023.invert(...), got one of other levels")


def _columns(frames: tuple[int, ...]) -> list[tuple[int, int]]:
    """Side and number of steps of each picture, in the order of signed steps; the one without steps counts once."""
    return [(0, step) for step in frames[:0:-1]] + [(1, step) for step in frames]
