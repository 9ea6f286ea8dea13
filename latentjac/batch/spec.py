"""What a run is to do, checked whole before anything starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from latentjac import editing
from latentjac.arguments import check_choice, check_int, check_number, check_text, is_number, shown
from latentjac.batch.yaml_files import read_yaml
from latentjac.diffusion.grids import NAMED_GRIDS
from latentjac.diffusion.ode_solvers import NAMED_SOLVERS
from latentjac.edit_options import DISTANCE, FARTHEST
from latentjac.editing import Method
from latentjac.files import FileError
from latentjac.solvers import LocalBasis

METHODS = {
    "guidance": editing.Guidance,
    "linear": editing.Linear,
    "geodesic": editing.Geodesic,
    "h-space": editing.HSpace,
}
PICTURES = ("files", "tar")
DTYPES = ("float32", "float64", "float16", "bfloat16")
MOST_BASES = 1000  # of an item: more would not fit the header of a part
_MOST_SEED = 2**63 - 1
_NAME = "spec"

Check = Callable[[str, Any], Any]  # of a key, as messages name it, and its value


def _whole(least: int, most: int | None = None, *, optional: bool = False) -> Check:
    return lambda key, value: check_int(_NAME, key, value, least, most, optional=optional)


def _number(low: float, high: float, **ends: bool) -> Check:
    return lambda key, value: check_number(_NAME, key, value, low, high, **ends)


def _text(*, optional: bool = False) -> Check:
    return lambda key, value: check_text(_NAME, key, value, optional=optional)


def _several(check: Check) -> Check:
    """One value or a list of different ones, as a tuple."""

    def checked(key: str, value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values:
            raise ValueError(f"{_NAME}: {key} must be a value or a list of some, got an empty list")
        found = tuple(check(key, entry) for entry in values)
        if len(set(found)) < len(found):
            raise ValueError(f"{_NAME}: {key} must be different values, got {shown(value)}")
        return found

    return checked


_UNDER: dict[str, Check] = {
    "num_inference_steps": _whole(1),
    "prompt": _text(optional=True),
    "negative_prompt": _text(),
    "guidance_scale": _number(-1e4, 1e4),
    "class_label": _whole(0, optional=True),
}
# The keys of each part, with what they may be.
_INVERT: dict[str, Check] = {
    **_UNDER,
    "t": _number(0, 1, most=True),
    "grid": lambda key, value: check_choice(_NAME, key, value, tuple(NAMED_GRIDS)),
    "solver": lambda key, value: check_choice(_NAME, key, value, tuple(NAMED_SOLVERS)),
}
_SAMPLE: dict[str, Check] = _UNDER
_BASES: dict[str, Check] = {
    "t": _several(_number(0, 1, least=True, most=True)),
    "layer": _several(_text()),
    "k": _whole(1),
    "tol": _number(0, 1),
    "seed": _whole(0, _MOST_SEED),
}
_MEASURES: dict[str, dict[str, Check]] = {
    "effective_rank": {"probes": _whole(2, 65_536), "steps": _whole(2), "threshold": _number(0, 1)},
    "linearity": {"tolerance": _number(0, 1)},
}


def built(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an inversion as :func:`latentjac.invert` takes them, with objects in place of names."""
    named: dict[str, Mapping[str, Any]] = {"grid": NAMED_GRIDS, "solver": NAMED_SOLVERS}
    return {key: named[key][value] if key in named else value for key, value in options.items()}


@dataclass(frozen=True)
class Bases:
    """Local bases of every item, at every t and layer.

    Attributes:
        t: Fractions of T.
        layer: Feature maps.
        k: Number of directions.
        tol: Largest relative residual.
        seed: Of each solver's start block.
    """

    t: tuple[float, ...]
    layer: tuple[str, ...] = ("mid",)
    k: int = 8
    tol: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class EditOf:
    """One edit of every item.

    Attributes:
        method: Name of the method.
        t: Fraction of T where it begins.
        layer: Of the basis that directions are taken from, and of the method.
        directions: Numbers of directions, from 1.
        distance: Signed distances.
        compose: Go along all directions at once, each with its own distance.
        basis: Saved basis that directions are taken from; by default the item's own.
        digest: SHA-256 of that file.
        options: Of the method.
    """

    method: str
    t: float
    layer: str
    directions: tuple[int, ...]
    distance: tuple[float, ...]
    compose: bool = False
    basis: str | None = None
    digest: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def built(self) -> Method:
        """The method with its options."""
        return METHODS[self.method](layer=self.layer, **self.options)


@dataclass(frozen=True)
class Spec:
    """What a run is to do.

    Attributes:
        items: A folder, a table or a list of picture files.
        model: Built-in name, folder or hub id.
        dtype: Type of the weights.
        invert: Options of :func:`latentjac.invert`, for items with a photo.
        sample: Options of :func:`latentjac.sample`, for items with a seed alone.
        bases: Which bases are computed; None for none.
        measures: What else is measured at each basis, each with its options.
        edits: Edits.
        pictures: How pictures are kept: ``"files"``, or ``"tar"``, one file a part in the layout of webdataset.
        root: Folder that relative paths begin in.
    """

    items: Any
    model: str = "faces"
    dtype: str | None = None
    invert: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    bases: Bases | None = None
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    edits: tuple[EditOf, ...] = ()
    pictures: str = PICTURES[0]
    root: Path = Path()

    def settings(self) -> dict[str, Any]:
        """All that decides what is computed for an item, as JSON has it; not where items are."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("items", "root")}
        found["bases"] = None if self.bases is None else asdict(self.bases)
        # Paths of bases may change, what is in them may not.
        found["edits"] = [{k: v for k, v in asdict(edit).items() if k != "basis"} for edit in self.edits]
        return found


def read_spec(source: Any, *, items_given: bool = False) -> Spec:
    """The spec of a YAML file or of a mapping with the same keys; everything in it is checked.

    Relative paths begin in the folder of the file, and in the current one for a mapping.

    Args:
        source: The file or mapping; a spec comes back as it is.
        items_given: Whether ``items`` may be missing, since they come from elsewhere.

    Raises:
        ImportError: If source is a file and PyYAML is not installed.
        TypeError: If a value has a wrong type; the message names the key.
        ValueError: If a key is unknown or missing, or a value out of range; the message names the key.
        FileNotFoundError: If there is no such file.
        FileError: If it is no YAML.
    """
    if isinstance(source, Spec):
        return source
    if isinstance(source, (str, Path)):
        return _checked(read_yaml(_NAME, source), Path(source).absolute().parent, items_given)
    return _checked(source, Path.cwd(), items_given)


def _checked(content: Any, root: Path, items_given: bool) -> Spec:
    known = {f.name for f in fields(Spec)} - {"root"}
    given = _mapping("the whole", content, known)
    if given.get("items") is None and not items_given:
        raise ValueError(f"{_NAME}: 'items' must be a folder, a table or a list of picture files, got none")
    found: dict[str, Any] = {"items": given.get("items"), "root": root}
    if "model" in given:
        found["model"] = check_text(_NAME, "'model'", given["model"])
    found["dtype"] = check_choice(_NAME, "'dtype'", given.get("dtype"), DTYPES, optional=True)
    found["pictures"] = check_choice(_NAME, "'pictures'", given.get("pictures", PICTURES[0]), PICTURES)
    found["invert"] = _options("invert", given.get("invert"), _INVERT)
    found["sample"] = _options("sample", given.get("sample"), _SAMPLE)
    if given.get("bases") is not None:
        found["bases"] = _bases(given["bases"])
    found["measures"] = _measures(given.get("measures"), found.get("bases"))
    found["edits"] = _edits(given.get("edits"), found.get("bases"), root)
    return Spec(**found)


def _mapping(key: str, value: Any, known: set[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose keys are all known."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{_NAME}: {key} must be a mapping of {sorted(known)}, got {type(value).__name__}")
    for name in value:
        if name not in known:
            where = name if key == "the whole" else f"{key[1:-1]}.{name}"
            raise ValueError(f"{_NAME}: keys must be among {sorted(known)}, got {str(where)[:100]!r}")
    return dict(value)


def _options(part: str, value: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Options of a part that were given, each checked."""
    given = {} if value is None else _mapping(f"'{part}'", value, checks)
    return {name: checks[name](f"'{part}.{name}'", entry) for name, entry in given.items()}


def _bases(value: Any) -> Bases:
    found = _options("bases", value, _BASES)
    if "t" not in found:
        raise ValueError(f"{_NAME}: 'bases.t' must be a fraction of T or a list of some, got none")
    bases = Bases(**found)
    if len(bases.t) * len(bases.layer) > MOST_BASES:
        count = len(bases.t) * len(bases.layer)
        raise ValueError(f"{_NAME}: 'bases' must be at most {MOST_BASES} an item (t times layer), got {count}")
    return bases


def _measures(value: Any, bases: Bases | None) -> dict[str, dict[str, Any]]:
    """Measures by name; a list has them with their defaults."""
    if isinstance(value, (list, tuple)):
        value = {check_choice(_NAME, "'measures'", name, list(_MEASURES)): None for name in value}
    given = {} if value is None else _mapping("'measures'", value, _MEASURES)
    if given and bases is None:
        raise ValueError(f"{_NAME}: 'bases' must be given with 'measures', which are taken at bases, got none")
    return {name: _options(f"measures.{name}", entry, _MEASURES[name]) for name, entry in given.items()}


def _edits(value: Any, bases: Bases | None, root: Path) -> tuple[EditOf, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{_NAME}: 'edits' must be a list of mappings, got {type(value).__name__}")
    return tuple(_edit(f"edits[{i}]", entry, bases, root) for i, entry in enumerate(value))


_EDIT = ("method", "t", "layer", "directions", "distance", "compose", "basis")


def _edit(part: str, value: Any, bases: Bases | None, root: Path) -> EditOf:
    name = value.get("method", "guidance") if isinstance(value, Mapping) else "guidance"
    kind = METHODS[check_choice(_NAME, f"'{part}.method'", name, list(METHODS))]
    own = {f.name for f in fields(kind)} - {"layer"}
    given = _mapping(f"'{part}'", value, {*_EDIT, *own})
    saved = None if given.get("basis") is None else _saved(part, given["basis"], root)
    t, layer = _place(part, given, bases, saved)
    directions = _several(_whole(1))(f"'{part}.directions'", given.get("directions", 1))
    most = bases.k if saved is None and bases is not None else 0 if saved is None else saved.k
    if max(directions) > most:
        raise ValueError(f"{_NAME}: '{part}.directions' must be at most {most}, the basis' k, got {max(directions)}")
    compose = given.get("compose", False)
    if not isinstance(compose, bool):
        raise TypeError(f"{_NAME}: '{part}.compose' must be a bool, got {type(compose).__name__}")
    distance = _distances(f"'{part}.distance'", given.get("distance", DISTANCE), compose, len(directions))
    found = EditOf(
        method=name,
        t=t,
        layer=layer,
        directions=directions,
        distance=distance,
        compose=compose,
        basis=None if saved is None else str(root / given["basis"]),
        digest=None if saved is None else hashlib.sha256((root / given["basis"]).read_bytes()).hexdigest(),
        options={option: given[option] for option in given if option in own},
    )
    try:
        found.built()
    except (TypeError, ValueError) as error:
        rest = str(error).partition(": ")[2]
        option, _, expected = rest.partition(" ")
        told = f"'{part}.{option}' {expected}" if option in own | {"layer"} else f"'{part}' {rest}"
        raise type(error)(f"{_NAME}: {told}") from error
    return found


def _distances(key: str, value: Any, compose: bool, count: int) -> tuple[float, ...]:
    check = _number(-FARTHEST, FARTHEST)
    if not compose:
        return _several(check)(key, value)  # type: ignore[no-any-return]
    values = [value] if is_number(value) else value
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ValueError(f"{_NAME}: {key} must be one number for each of {count} directions, got {shown(value)}")
    return tuple(check(key, entry) for entry in values)


def _saved(part: str, value: Any, root: Path) -> LocalBasis:
    path = check_text(_NAME, f"'{part}.basis'", value)
    try:
        basis = LocalBasis.load(root / path)
    except (FileNotFoundError, FileError, ValueError) as error:
        raise ValueError(f"{_NAME}: '{part}.basis' must be a saved basis, got {path!r}: {error}") from error
    if basis.points > 1:
        raise ValueError(f"{_NAME}: '{part}.basis' must be of one point, got {basis.points}")
    return basis


def _place(part: str, given: Mapping[str, Any], bases: Bases | None, saved: LocalBasis | None) -> tuple[float, str]:
    """Where an edit begins: by default where the only basis is, or where the saved one was."""
    if saved is None and bases is None:
        raise ValueError(f"{_NAME}: '{part}.basis' must be given without 'bases', got neither")
    facts = {} if saved is None else saved.metadata
    usual_t = facts.get("t") if saved is not None else bases.t[0] if bases is not None and len(bases.t) == 1 else None
    usual_layer = facts.get("layer", "mid") if saved is not None else bases.layer[0] if bases is not None else "mid"
    t, layer = given.get("t", usual_t), given.get("layer", usual_layer)
    t = check_number(_NAME, f"'{part}.t'", t, 0, 1, least=True, most=True)
    layer = check_text(_NAME, f"'{part}.layer'", layer)
    if saved is None and bases is not None:
        for key, entry, known in (("t", t, bases.t), ("layer", layer, bases.layer)):
            if entry not in known:
                raise ValueError(f"{_NAME}: '{part}.{key}' must be one of 'bases.{key}' {list(known)}, got {entry!r}")
    return t, layer
