"""What a run is to do, checked whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from latentjac.arguments import check_choice, check_text
from latentjac.batch import load_spec
from latentjac.batch.edit_spec import EDIT_PATHS, EditOf, edits_of
from latentjac.batch.mask_spec import MaskOf, mask_of, told
from latentjac.batch.slider_spec import SLIDER_PATHS, SliderOf, sliders_of
from latentjac.batch.spec_changes import changed
from latentjac.batch.spec_values import NAME, Check, mapping, number, options, several, text, whole
from latentjac.batch.yaml_files import read_yaml
from latentjac.diffusion.grids import NAMED_GRIDS
from latentjac.diffusion.ode_solvers import NAMED_SOLVERS
from latentjac.editing.masks import OUTPUT_LAYERS

PICTURES = ("files", "tar")
DTYPES = ("float32", "float64", "float16", "bfloat16")
MOST_BASES = 1000  # of an item: more would not fit the header of a part
_MOST_SEED = 2**63 - 1
_OUTPUTS = " or ".join(map(repr, OUTPUT_LAYERS))

_UNDER: dict[str, Check] = {
    "num_inference_steps": whole(1),
    "prompt": text(optional=True),
    "negative_prompt": text(),
    "guidance_scale": number(-1e4, 1e4),
    "class_label": whole(0, optional=True),
}
# The keys of each part, with what they may be.
_INVERT: dict[str, Check] = {
    **_UNDER,
    "t": number(0, 1, most=True),
    "grid": lambda key, value: check_choice(NAME, key, value, tuple(NAMED_GRIDS)),
    "solver": lambda key, value: check_choice(NAME, key, value, tuple(NAMED_SOLVERS)),
}
_SAMPLE: dict[str, Check] = _UNDER
_BASES: dict[str, Check] = {
    "t": several(number(0, 1, least=True, most=True)),
    "layer": several(text()),
    "k": whole(1),
    "tol": number(0, 1),
    "seed": whole(0, _MOST_SEED),
    "mask": lambda key, value: value,  # see _bases
}
_MEASURES: dict[str, dict[str, Check]] = {
    "effective_rank": {"probes": whole(2, 65_536), "steps": whole(2), "threshold": number(0, 1)},
    "linearity": {"tolerance": number(0, 1)},
}


def built(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an inversion as :func:`latentjac.invert` takes them, with objects in place of names."""
    named: dict[str, Mapping[str, Any]] = {"grid": NAMED_GRIDS, "solver": NAMED_SOLVERS}
    return {key: named[key][value] if key in named else value for key, value in given.items()}


@dataclass(frozen=True)
class Bases:
    """Local bases of every item, at every t and layer.

    Attributes:
        t: Fractions of T.
        layer: Feature maps.
        k: Number of directions.
        tol: Largest relative residual.
        seed: Of each solver's start block.
        mask: What part of an output they are of; None for the whole.
    """

    t: tuple[float, ...]
    layer: tuple[str, ...] = ("mid",)
    k: int = 8
    tol: float = 1e-3
    seed: int = 0
    mask: MaskOf | None = None


@dataclass(frozen=True)
class Spec:
    """What a run is to do.

    Attributes:
        items: A folder, a table or a list of picture files.
        model: Built-in name, folder or hub id.
        dtype: Type of the weights.
        load: Further options of :func:`latentjac.load`.
        invert: Options of :func:`latentjac.invert`, for items with a photo.
        sample: Options of :func:`latentjac.sample`, for items with a seed alone.
        bases: Which bases are computed; None for none.
        measures: What else is measured at each basis, each with its options.
        edits: Edits.
        sliders: Sliders.
        pictures: How pictures are kept: ``"files"``, or ``"tar"``, one file a part in the layout of webdataset.
        root: Folder that relative paths begin in.
    """

    items: Any
    model: str = "faces"
    dtype: str | None = None
    load: dict[str, Any] = field(default_factory=dict)
    invert: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    bases: Bases | None = None
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    edits: tuple[EditOf, ...] = ()
    sliders: tuple[SliderOf, ...] = ()
    pictures: str = PICTURES[0]
    root: Path = Path()

    def settings(self) -> dict[str, Any]:
        """All that decides what is computed for an item, as JSON has it; not where items are."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("items", "root", "load")}
        found["bases"] = None if self.bases is None else _plain(self.bases)
        if self.load:  # runs from before there were such have none
            found["load"] = load_spec.told(self.load)
        # Paths of files may change, what is in them may not.
        for steps, paths in (("edits", EDIT_PATHS), ("sliders", SLIDER_PATHS)):
            found[steps] = [{k: v for k, v in _plain(e).items() if k not in paths} for e in getattr(self, steps)]
        return found

    @property
    def mask_columns(self) -> dict[str, str]:
        """Columns of the items that name masks, each with the first key that names it."""
        bases = () if self.bases is None else (("bases", self.bases.mask),)
        lists: tuple[tuple[str, Sequence[EditOf | SliderOf]], ...] = (("edits", self.edits), ("sliders", self.sliders))
        steps = ((f"{name}[{i}]", entry.mask) for name, entries in lists for i, entry in enumerate(entries))
        found: dict[str, str] = {}
        for part, mask in (*bases, *steps):
            if mask is not None and mask.column is not None:
                found.setdefault(mask.column, f"'{part}.mask.column'")
        return found


def _plain(part: Bases | EditOf | SliderOf) -> dict[str, Any]:
    """A part as JSON has it."""
    return {**asdict(part), "mask": told(part.mask)}


def read_spec(source: Any, *, items_given: bool = False, changes: Mapping[str, Any] | None = None) -> Spec:
    """The spec of a YAML file or of a mapping with the same keys; everything in it is checked.

    Relative paths begin in the folder of the file, and in the current one for a mapping.

    Args:
        source: The file or mapping; a spec comes back as it is.
        items_given: Whether ``items`` may be missing, since they come from elsewhere.
        changes: Other values for some of its keys, such as ``{"bases.k": 4, "edits.0.distance": [-3, 3]}``.

    Raises:
        ImportError: If source is a file and PyYAML is not installed.
        TypeError: If a value has a wrong type; the message names the key.
        ValueError: If a key is unknown or missing, or a value out of range; the message names the key.
        FileNotFoundError: If there is no such file, or no mask that it names.
        FileError: If it is no YAML.
    """
    if isinstance(source, Spec):
        if changes:
            raise ValueError(f"{NAME}: changes must be none with a spec that was read, got {sorted(changes)}")
        return source
    named = isinstance(source, (str, Path))
    content, root = (read_yaml(NAME, source), Path(source).absolute().parent) if named else (source, Path.cwd())
    return _checked(changed(content, changes) if changes else content, root, items_given)


def _checked(content: Any, root: Path, items_given: bool) -> Spec:
    known = {f.name for f in fields(Spec)} - {"root"}
    given = mapping("the whole", content, known)
    if given.get("items") is None and not items_given:
        raise ValueError(f"{NAME}: 'items' must be a folder, a table or a list of picture files, got none")
    found: dict[str, Any] = {"items": given.get("items"), "root": root}
    if "model" in given:
        found["model"] = check_text(NAME, "'model'", given["model"])
    found["dtype"] = check_choice(NAME, "'dtype'", given.get("dtype"), DTYPES, optional=True)
    found["load"] = load_spec.load_of(given.get("load"), root)
    found["pictures"] = check_choice(NAME, "'pictures'", given.get("pictures", PICTURES[0]), PICTURES)
    found["invert"] = options("invert", given.get("invert"), _INVERT)
    found["sample"] = options("sample", given.get("sample"), _SAMPLE)
    if given.get("bases") is not None:
        found["bases"] = _bases(given["bases"], root)
    found["measures"] = _measures(given.get("measures"), found.get("bases"))
    found["edits"] = edits_of(given.get("edits"), found.get("bases"), root)
    found["sliders"] = sliders_of(given.get("sliders"), root)
    return Spec(**found)


def _bases(value: Any, root: Path) -> Bases:
    found = options("bases", value, _BASES)
    found["mask"] = mask_of("bases", found.get("mask"), root)
    if found["mask"] is not None:
        found.setdefault("layer", OUTPUT_LAYERS[:1])
        others = [layer for layer in found["layer"] if layer not in OUTPUT_LAYERS]
        if others:
            raise ValueError(f"{NAME}: 'bases.layer' must be {_OUTPUTS} with 'bases.mask', got {others[0]!r}")
    if "t" not in found:
        raise ValueError(f"{NAME}: 'bases.t' must be a fraction of T or a list of some, got none")
    bases = Bases(**found)
    if len(bases.t) * len(bases.layer) > MOST_BASES:
        count = len(bases.t) * len(bases.layer)
        raise ValueError(f"{NAME}: 'bases' must be at most {MOST_BASES} an item (t times layer), got {count}")
    return bases


def _measures(value: Any, bases: Bases | None) -> dict[str, dict[str, Any]]:
    """Measures by name; a list has them with their defaults."""
    if isinstance(value, (list, tuple)):
        value = {check_choice(NAME, "'measures'", name, list(_MEASURES)): None for name in value}
    given = {} if value is None else mapping("'measures'", value, _MEASURES)
    if given and bases is None:
        raise ValueError(f"{NAME}: 'bases' must be given with 'measures', which are taken at bases, got none")
    return {name: options(f"measures.{name}", entry, _MEASURES[name]) for name, entry in given.items()}
