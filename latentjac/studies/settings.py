"""How large a study is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LARGEST_SEED = 2**63 - 1

# What checks comes with torch, which reading the defaults does not need: it is imported where it is used.


@dataclass(frozen=True)
class Settings:
    """What every study is told; the defaults take some minutes a study on one core with the built-in model.

    Attributes:
        samples: Generated samples, which the intervals are over; at least 2.
        levels: Noise levels, fractions of T in [0, 1], at least 2; kept from the noisiest to the cleanest.
        k: Directions of a local basis.
        tol: Largest relative residual of a singular triplet.
        seed: Of the samples' noise and of all other random choices.
        steps: DDIM steps of the grid that the levels lie on.
        prompts: Texts that the study ``prompts`` compares, at least 3.
        class_label: For models with classes: that of the samples; the null class by default.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If a value is out of range.
    """

    samples: int = 8
    levels: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    k: int = 8
    tol: float = 1e-2
    seed: int = 0
    steps: int = 50
    prompts: tuple[str, ...] = (
        "a mountain lake at dawn",
        "a bowl of fruit on a table",
        "a portrait of an old man",
        "a city street at night",
        "a dog running on a beach",
    )
    class_label: int | None = None

    def __post_init__(self) -> None:
        from latentjac.arguments import check_int, check_number
        from latentjac.diffusion.sampling import MOST_IMAGES

        limits = {"samples": (2, MOST_IMAGES), "k": (1, None), "seed": (0, _LARGEST_SEED), "steps": (1, None)}
        checked: dict[str, Any] = {
            name: check_int("Settings", name, getattr(self, name), least, most)
            for name, (least, most) in limits.items()
        }
        checked["class_label"] = check_int("Settings", "class_label", self.class_label, 0, optional=True)
        checked["tol"] = check_number("Settings", "tol", self.tol, 0, 1)
        checked["levels"] = _checked_levels(self.levels)
        checked["prompts"] = _checked_prompts(self.prompts)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def small(cls) -> Settings:
        """The smallest that shows something: seconds a study, for trying out and for tests."""
        return cls(samples=3, levels=(0.9, 0.5, 0.1), k=3, steps=10, prompts=cls.prompts[:3])


def check_samples(study: str, settings: Settings, least: int) -> None:
    """Raise unless there are as many samples as a study needs; one that leaves samples out needs more than others."""
    if settings.samples < least:
        raise ValueError(f"{study}: settings.samples must be at least {least}, got {settings.samples}")


def check_study(study: str, models: Any, settings: Any, progress: Any, *, several: bool = False) -> None:
    """Raise unless a study can be run with these arguments.

    Args:
        study: Its name.
        models: A model, or with ``several`` a sequence of at least two.
        settings: How large it is.
        progress: Whether progress bars are shown.
        several: Whether it compares models.
    """
    from latentjac.arguments import check_bool, check_kind
    from latentjac.diffusion.arguments import check_model
    from latentjac.models import Model

    if several:
        check_kind(study, "models", models, Sequence, "a sequence of latentjac.Model")
        for i, model in enumerate(models):
            check_kind(study, f"models[{i}]", model, Model, "a latentjac.Model (from latentjac.load)")
        if len(models) < 2:
            raise ValueError(f"{study}: models must be at least two, got {len(models)}")
    else:
        check_model(study, models)
    check_kind(study, "settings", settings, Settings, "a latentjac.studies.Settings")
    check_bool(study, "progress", progress)


def _checked_levels(levels: Any) -> tuple[float, ...]:
    from latentjac.arguments import check_number, check_sequence, shown

    given = check_sequence("Settings", "levels", levels, "fractions of T")
    fractions = [check_number("Settings", "levels", t, 0, 1, least=True, most=True) for t in given]
    if len(set(fractions)) < max(2, len(fractions)):
        raise ValueError(f"Settings: levels must hold at least 2 different ones, each once, got {shown(given)}")
    return tuple(sorted(fractions, reverse=True))


def _checked_prompts(prompts: Any) -> tuple[str, ...]:
    from latentjac.arguments import check_sequence, check_text, shown

    texts = [check_text("Settings", "prompts", p) for p in check_sequence("Settings", "prompts", prompts, "texts")]
    if len(set(texts)) < max(3, len(texts)):
        raise ValueError(f"Settings: prompts must hold at least 3 different texts, each once, got {shown(texts)}")
    return tuple(texts)
