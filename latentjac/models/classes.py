"""Classes as what a network is conditioned on, and all that can be asked for at once: texts, classes and guidance."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from latentjac.arguments import check_int, check_kind, check_left, check_number, is_int, shown
from latentjac.models.conditioning import FURTHEST
from latentjac.models.text import check_prompts

if TYPE_CHECKING:
    from latentjac.models.model import Model

_LARGEST = 2**31 - 1  # a label where the network has no bound


@dataclass(frozen=True)
class Classes:
    """Which labels of classes a network takes: whole numbers from 0.

    Attributes:
        count: How many there are, the null class among them; None where the network takes any number.
        null: The label that stands for no class, which guidance leads away from; None for networks without.

    Raises:
        TypeError: If an argument is no int.
        ValueError: If it is out of range.
    """

    count: int | None = None
    null: int | None = None

    def __post_init__(self) -> None:
        count = check_int("Classes", "count", self.count, 1, _LARGEST, optional=True)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "null", check_int("Classes", "null", self.null, 0, self.last, optional=True))

    @property
    def last(self) -> int:
        """The largest label."""
        return _LARGEST if self.count is None else self.count - 1


@dataclass(frozen=True)
class Asked:
    """What a network is asked to be conditioned on, as users give it: the arguments of :meth:`Model.conditioning`."""

    prompt: Any = None
    negative_prompt: Any = ""
    guidance_scale: Any = 1.0
    class_label: Any = None
    negative_class_label: Any = None

    def check_left(self, function: str, where: str, usual_scale: float | None = 1.0) -> None:
        """Raise unless nothing is asked for."""
        usual = {field.name: field.default for field in fields(self)}
        del usual["guidance_scale"]  # comes last: it can be one that follows from the others
        for name, value in {**usual, "guidance_scale": usual_scale}.items():
            check_left(function, name, getattr(self, name), value, where)

    def with_usual_scale(self, model: Model) -> Asked:
        """With the scale that the pipelines of the model have by default where there is none, and guidance can be."""
        if self.guidance_scale is not None:
            return self
        prompted = model.text is not None and isinstance(self.prompt, (str, list)) and len(self.prompt) > 0
        classes = model.classes
        away = classes is not None and (classes.null is not None or self.negative_class_label is not None)
        guided = prompted or (away and self.class_label is not None)
        return replace(self, guidance_scale=model.guidance_scale if guided else 1.0)

    def checked(self, function: str, model: Model) -> Asked:
        """The same in plain form, if the model takes it.

        Labels are a list, or None for models without classes; the negative label is there where guidance needs it.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If one is out of range, or is asked of a model that does not take it.
        """
        if model.classes is not None:
            check_prompts(function, model, self.prompt, self.negative_prompt, 1.0)
            scale = check_number(function, "guidance_scale", self.guidance_scale, -FURTHEST, FURTHEST)
            labels = _labels(function, model, model.classes, self.class_label)
            away = _negative_label(function, model, model.classes, self.negative_class_label, scale)
            return Asked(guidance_scale=scale, class_label=labels, negative_class_label=away)
        where = f"since model {model.name!r} is not conditioned on classes"
        check_left(function, "class_label", self.class_label, None, where)
        check_left(function, "negative_class_label", self.negative_class_label, None, where)
        return Asked(*check_prompts(function, model, self.prompt, self.negative_prompt, self.guidance_scale))


def _labels(function: str, model: Model, classes: Classes, labels: Any) -> list[int]:
    if labels is None:
        if classes.null is None:
            raise ValueError(
                f"{function}: class_label must be given since model {model.name!r} is conditioned on classes and has "
                "no null class, got None"
            )
        return [classes.null]
    if is_int(labels):
        return [_label(function, "class_label", classes, labels)]
    check_kind(function, "class_label", labels, (list, tuple), "an int, a list of ints", optional=True)
    if not labels:
        raise ValueError(f"{function}: class_label must hold at least one label, got an empty list")
    return [_label(function, f"class_label[{i}]", classes, label) for i, label in enumerate(labels)]


def _negative_label(function: str, model: Model, classes: Classes, label: Any, scale: float) -> int | None:
    if label is not None:
        return _label(function, "negative_class_label", classes, label)
    if classes.null is None and scale != 1:
        raise ValueError(
            f"{function}: negative_class_label must be given with guidance_scale since model {model.name!r} has no "
            "null class, got None"
        )
    return classes.null


def _label(function: str, argument: str, classes: Classes, label: Any) -> int:
    number: int = check_int(function, argument, label)
    if not 0 <= number <= classes.last:
        raise ValueError(
            f"{function}: {argument} must be in [0, {classes.last}], as the network has classes, got {shown(number)}"
        )
    return number
