"""What one visitor has open: a photo, its way to noise, a point, directions and the pictures along them."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

import latentjac
from latentjac.arguments import check_int, check_number
from latentjac.edit_options import FARTHEST
from latentjac.editing import Mask, word_direction
from latentjac.editing.masks import OUTPUT_LAYERS, masked_basis
from latentjac.editing.methods import BY_NAME as METHODS
from latentjac.explore.jobs import Job
from latentjac.explore.lines import Line, Walker
from latentjac.explore.state import AUTO, Found, Kept, Photo, Question, Shared, Way
from latentjac.models import to_pil
from latentjac.models.prepare import Box, crop_image, inside_of, middle_box, read_image

if TYPE_CHECKING:
    from latentjac.editing import Method

MOST_DIRECTIONS = 12
# Farthest distances that show something of most directions; additions to features are far longer.
RANGES = {name: 120.0 if kind.in_features else 6.0 for name, kind in METHODS.items()}
T = 0.7  # fraction of T of the level that is chosen at first
MOST_LINES = 16
VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of a saved slider
_PATIENCE = 120.0  # seconds that a new photo waits for a job to end


class Session:
    """What one visitor has open.

    What computes is a :class:`latentjac.explore.jobs.Job`, of which a session has one at a time; its results replace
    attributes as they come. All methods may be called from any thread.

    Args:
        shared: What all visitors share.

    Attributes:
        photo: The photo; None before there is one.
        way: Its way to noise; None before it is inverted.
        level: Of the schedule, where the next directions are asked for.
        found: Directions; None before they are asked for.
        lines: Pictures along each.
        kept: Directions that were kept as sliders; they stay when the photo changes.
        composed: Picture at the end of a walk along several directions at once, and their distances.
        job: What computes, or did last.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.photo: Photo | None = None
        self.way: Way | None = None
        self.level = 0
        self.found: Found | None = None
        self.lines: tuple[Line, ...] = ()
        self.composed: tuple[Image.Image, dict[str, float]] | None = None
        self.kept: tuple[Kept, ...] = ()
        self.job: Job | None = None
        self._lock = threading.RLock()

    # What the visitor does

    def open(self, path: Path, name: str | None = None) -> None:
        """Open a photo: any picture that Pillow reads. What was open before is gone.

        Raises:
            ValueError: If it is none, or cannot be read; what was open before stays then.
        """
        with _by_name(path):
            whole = read_image(path, "open: The photo")
        box = middle_box(*whole.image.size, self.shared.shape)
        self._replace(Photo(name or path.name, whole, box))

    def crop(self, box: Box) -> None:
        """Use another part of the photo, when it is inverted next.

        Raises:
            ValueError: If there is no photo, or the box is empty or outside.
        """
        photo = self._having(self.photo, "crop: Open a photo first")
        crop_image(photo.whole, box, "crop")
        self.photo = Photo(photo.name, photo.whole, box)

    def invert(self, prompt: str = "") -> Job:
        """Begin to take the photo to noise and back.

        Raises:
            ValueError: If there is no photo, or something computes.
        """
        photo = self._having(self.photo, "invert: Open a photo first")

        def work(job: Job) -> None:
            shared = self.shared
            picture = photo.fitted(shared.shape).image
            under = shared.under(photo.whole, photo.box, prompt.strip() or None)
            path = latentjac.invert(
                shared.model, picture, num_inference_steps=shared.steps, conditioning=under, **shared.inversion
            )
            pictures = to_pil(torch.cat([shared.model.codec.decode(x) for x in [*path.samples, path.reconstruction]]))
            way = Way(picture, pictures[-1], tuple(pictures[:-1]), path, prompt.strip())
            self._put(job, way=way, level=path.at(T).level, found=None, lines=(), composed=None)

        return self._start("inverting", work)

    def choose(self, level: int) -> None:
        """Choose the level where the next directions are asked for.

        Raises:
            ValueError: If the photo is not inverted, or there is no such level.
        """
        way = self._having(self.way, "choose: Invert a photo first")
        self.level = check_int("choose", "The level", level, 1, way.trajectory.schedule.top)

    def find(self, question: Question) -> Job:
        """Begin to find directions at a point, and to draw the pictures along them.

        Raises:
            ValueError: If a part of the question is out of range, or the photo is not inverted, or something computes.
            TypeError: If a part of the question has a wrong type.
        """
        way = self._having(self.way, "find: Invert a photo first")
        layer, method, level = *self._checked(question), self.level

        def work(job: Job) -> None:
            model = self.shared.model
            point = way.trajectory.at(timestep=way.trajectory.schedule.timesteps[level])
            seen = point.with_prompt(model, question.words) if question.words else point
            generator = torch.Generator().manual_seed(self.shared.seed)
            options: dict[str, Any] = {"layer": layer, "tol": self.shared.tol, "generator": generator}
            job.begin("finding directions")
            if question.mask is not None and layer in OUTPUT_LAYERS:
                basis = masked_basis(model, seen, question.mask, question.k, **options)
            else:
                basis = latentjac.local_basis(model, seen, question.k, **options)
            mask = None if question.mask is None else Mask(question.mask)
            found = Found(question, basis, Walker(model, point, way.picture, method, mask))
            self._put(job, found=found, lines=(), composed=None)
            self._draw(job, found)

        return self._start("finding directions", work)

    def between(self, away: str, towards: str, question: Question) -> Job:
        """Begin to find the direction that leads from one text to another; its line comes to those that are there.

        Args:
            away: Where from; empty for what the photo is said to show.
            towards: Where to.
            question: Whose layer, method, range and mask hold here, too; its words do not.

        Raises:
            ValueError: If the model has no text, a part of the question is out of range, the method takes no such
                directions, the photo is not inverted, or something computes.
        """
        way = self._having(self.way, "between: Invert a photo first")
        if self.shared.model.text is None:
            raise ValueError("between: Directions between texts are there for models with text")
        origin, goal = away.strip(), towards.strip()
        if not goal:
            raise ValueError("between: Say where the direction is to lead")
        (_, method), level = self._checked(replace(question, words="")), self.level
        if method.in_features:
            raise ValueError(f"between: The method must move the noisy sample, got {question.method}")

        def work(job: Job) -> None:
            model = self.shared.model
            point = way.trajectory.at(timestep=way.trajectory.schedule.timesteps[level])
            mask = None if question.mask is None else Mask(question.mask)
            job.begin(f"finding the way to {goal}")
            v = word_direction(model, point, goal, origin or None, mask=mask)
            job.begin(f"drawing the way to {goal}")
            walker, note = Walker(model, point, way.picture, method, mask), f"from {origin or 'what the photo shows'}"
            lines = walker.lines([goal], [note], v[None], question.end)
            self._put(job, lines=(*self.lines, *lines)[-MOST_LINES:])

        return self._start(f"finding the way to {goal}", work)

    def keep(self, index: int) -> Job:
        """Begin to calibrate the direction of a line as a slider, and to write its file.

        Raises:
            ValueError: If there is no such line, or something computes.
        """
        line = self.line(index)
        if line.values is not None:
            raise ValueError("keep: This is a saved slider by now.")

        def work(job: Job) -> None:
            job.begin(f"calibrating {line.title}")
            at = line.walker
            options: dict[str, Any] = {"method": at.method, "mask": at.mask}
            slider = latentjac.Slider.make(at.model, at.point, line.direction, **options)
            path = slider.save(self.file(f"{line.title} at t {at.point.t:.2f}", ".safetensors"))
            self._put(job, kept=(*self.kept, Kept(path, path.stem, slider.change)))

        return self._start(f"calibrating {line.title}", work)

    def apply(self, path: Path, title: str | None = None) -> Job:
        """Begin to apply a saved slider to the photo; it becomes a line of its own.

        Raises:
            ValueError: If the photo is not inverted, the file is no slider of this model, or something computes.
        """
        way = self._having(self.way, "apply: Invert a photo first")
        with _by_name(path):
            slider = latentjac.Slider.load(path, self.shared.model)

        def work(job: Job) -> None:
            job.begin("applying the slider")
            model, steps = self.shared.model, way.trajectory.schedule
            point = way.trajectory.at(min(slider.t, steps.timesteps[-1] / steps.num_train_timesteps))
            applied = slider.apply(model, point, list(VALUES), photo=way.picture)
            assert not isinstance(applied, list)
            walker = Walker(model, point, way.picture, slider.method, slider.mask)
            note = f"a change of {slider.change:.2g} at ±1"
            line = walker.of_slider(applied.edit, title or path.stem, note, tuple(applied.values))
            self._put(job, lines=(*self.lines, line)[-MOST_LINES:])

        return self._start("applying the slider", work)

    def farther(self, index: int) -> Job:
        """Begin to draw a line to twice its distance.

        Raises:
            ValueError: If there is no such line, or something computes.
        """
        line = self.line(index)

        def work(job: Job) -> None:
            job.begin(f"{line.title}, farther")
            longer = line.walker.longer(line)
            self._put(job, lines=tuple(longer if other is line else other for other in self.lines))

        return self._start(f"{line.title}, farther", work)

    def compose(self, marks: dict[int, float]) -> Job:
        """Begin to draw the picture at the end of a walk along several lines at once.

        Args:
            marks: Where sliders of lines stand, by the index of the line; zeros are left out.

        Raises:
            ValueError: If none is left, there is no such line, they are of different points, or something computes.
        """
        chosen = {index: mark for index, mark in marks.items() if mark}
        if not chosen:
            raise ValueError("compose: Move at least one slider away from 0 first.")
        lines = [self.line(index) for index in chosen]
        walker = lines[0].walker
        if any(not line.walker.goes_with(walker) for line in lines):
            raise ValueError("compose: Directions of one noise level and method go together; set the others to 0.")
        distances = [line.distance_at(mark) for line, mark in zip(lines, chosen.values(), strict=True)]

        def work(job: Job) -> None:
            job.begin("composing")
            image = walker.composed(lines, distances)
            names = {line.title: mark for line, mark in zip(lines, chosen.values(), strict=True)}
            self._put(job, composed=(image, names))

        return self._start("composing", work)

    def stop(self, *, wait: bool = False) -> None:
        """Have what computes end; return at once, or when it has ended."""
        job = self.job
        if job is not None:
            job.stop()
            if wait:
                job.join(_PATIENCE)

    def close(self) -> None:
        """End what computes; nobody comes back to this session."""
        with self._lock:
            self.stop()
            self.job = None

    # How it computes

    def _start(self, what: str, work: Callable[[Job], None]) -> Job:
        with self._lock:
            if self.job is not None and self.job.running:
                raise ValueError(f"Wait for this to end, or stop it: {self.job.report.stage}.")
            self.job = Job(what, work, self.shared.turn)
            return self.job.start()

    def _put(self, job: Job, **results: Any) -> None:
        """Take the results of a job, unless the visitor has gone on to something else."""
        with self._lock:
            if job is self.job:
                for name, value in results.items():
                    setattr(self, name, value)

    def _replace(self, photo: Photo) -> None:
        with self._lock:
            self.stop()
            self.photo, self.way, self.level = photo, None, 0
            self.found, self.lines, self.composed, self.job = None, (), None, None

    def _draw(self, job: Job, found: Found) -> None:
        """The lines of directions, each as soon as it is there; with a mask all at once, which share its null space."""
        basis, end = found.basis, found.question.end
        directions = basis.u if found.walker.method.in_features else basis.v
        titles = [f"direction {i + 1}" for i in range(basis.k)]
        notes = [f"s = {s:.3g}" for s in basis.s.tolist()]
        size = basis.k if found.walker.mask is not None else 1
        for i in range(0, basis.k, size):
            part = slice(i, i + size)
            job.begin(f"drawing direction {i + 1} of {basis.k}" if size == 1 else f"drawing {basis.k} directions")
            lines = found.walker.lines(titles[part], notes[part], directions[part], end)
            self._put(job, lines=(*self.lines, *lines))

    # What may be asked

    def _checked(self, question: Question) -> tuple[str, Method]:
        """The layer and the method of a question."""
        check_int("find", "The number of directions", question.k, 1, MOST_DIRECTIONS)
        check_number("find", "The range", question.end, 0, FARTHEST)
        if question.method not in METHODS:
            raise ValueError(f"find: The method must be one of {', '.join(METHODS)}, got {question.method}")
        if question.words and self.shared.model.text is None:
            raise ValueError("find: Words must be left out with a model without text")
        kind: Any = METHODS[question.method]
        if question.words and kind.in_features:
            raise ValueError(
                f"find: Words must be left out with {question.method}, which adds to features under the photo's"
            )
        layer = question.layer.strip()
        if layer in ("", AUTO):
            layer = "mid" if question.mask is None or kind.in_features else "x0"
        self.shared.model.feature_map(layer)
        return layer, kind(layer=layer) if kind.in_features else kind(layer=layer, prompt=question.words or None)

    def line(self, index: int) -> Line:
        """A line by its index.

        Raises:
            ValueError: If there is none.
        """
        if not 0 <= index < len(self.lines):
            raise ValueError(f"There is no direction {index + 1}.")
        return self.lines[index]

    @staticmethod
    def _having(value: Any, otherwise: str) -> Any:
        if value is None:
            raise ValueError(f"{otherwise}.")
        return value

    def file(self, name: str, ending: str) -> Path:
        """A path for a new file of this session; names are made plain."""
        folder = Path(tempfile.mkdtemp(dir=self.shared.folder))
        return folder / f"{re.sub(r'[^0-9A-Za-z.]+', '-', name).strip('-.') or 'file'}{ending}"

    def mask_of(self, painted: Image.Image | None) -> torch.Tensor | None:
        """A painted mask, grey and white inside, as bool ``[H, W]`` at sample size; None where nothing is painted."""
        if painted is None:
            return None
        height, width = self.shared.model.sample_shape[-2:]
        inside = torch.from_numpy(inside_of(painted.convert("L").resize((width, height), Image.Resampling.BOX)))
        if inside.all():
            raise ValueError("The mask must leave a part of the picture out.")
        return inside if inside.any() else None


@contextmanager
def _by_name(path: Path) -> Iterator[None]:
    """Errors speak of a file by its name: where it lies here is nothing to its visitor."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error
