"""Weights of the parts of a model from safetensors files, compared with the configuration before they are read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from latentjac.files import read_json
from latentjac.models.errors import LoadError, reading
from latentjac.tensor_files import Header, read_header, read_tensors

# Names that attention of autoencoders had before diffusers 0.15, and text encoders before transformers 5.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"\.({'|'.join(_OLD_NAMES)})\.(weight|bias)$")
_TEXT = "text_model."
# What follows from the configuration, kept by old versions of transformers.
_UNUSED = re.compile(r"(.*\.)?(position_ids|rotary_emb\.inv_freq)$")
# Names of those of a transformer in the files of ControlNets, by the class of these, which use its modules.
_SHARED = {
    "SD3ControlNetModel": (r"^pos_embed\.",),
    "ZImageControlNetModel": (
        r"^(t_embedder|all_x_embedder|cap_embedder|noise_refiner|context_refiner)\.",
        "^(x|cap)_pad_token$",
    ),
}
# Weights of IP-Adapters, which a configuration says nothing of.
_IMAGE_PROMPT = re.compile(r"\.to_[kv]_ip\.|^encoder_hid_proj\.image_projection_layers\.")


def plan(
    make: Callable[[], torch.nn.Module],
    config: Path,
    stem: str,
    variant: str | None,
    dtype: torch.dtype,
    renamed: Callable[[Any], Callable[[str], str]] = lambda network: lambda name: name,
) -> Callable[[], Any]:
    """What reads a part, after a look at its configuration and at the headers of its weights.

    Args:
        make: Makes it of its configuration, with any weights.
        config: File of the configuration, which has been checked. The weights lie beside it.
        stem: How their files begin.
        variant: Weight variant such as ``"fp16"``.
        dtype: Type of the weights; see :func:`cast_weights`.
        renamed: Gives of the network what it calls a weight now that has another name in the files of older ones.

    Returns:
        A function that makes the part and reads the weights; it raises a LoadError that names the first that is not
        finite.

    Raises:
        LoadError: If the part cannot be made, there are no weights, or names or shapes do not fit.
    """
    files = _files(config.parent, stem, variant)
    with reading():
        headers = {file: read_header("load", file) for file in files}
    for file, listed in files.items():
        if listed is not None and listed != set(headers[file].entries):
            name = min(listed ^ set(headers[file].entries))
            raise LoadError(f"load: {str(file)!r} must hold the weights that its index lists there, got {name} in one")
    network = made_without_memory(make, config)
    expected, rename = Expected.of(network), renamed(network)
    names = {file: names_of(header.entries, expected, rename) for file, header in headers.items()}
    check_fit(config, headers, names, expected)

    def read() -> Any:
        part = make_part(make, config, dtype)
        for file in files:
            _copy(file, headers[file], names[file], part.state_dict())
        return part

    return read


def made_without_memory(make: Callable[[], torch.nn.Module], config: Path) -> torch.nn.Module:
    """A part on the device ``"meta"``: a configuration can ask for more memory than there is.

    Raises:
        LoadError: If it cannot be made.
    """
    with torch.device("meta"):
        return _make(make, config)


def make_part(make: Callable[[], torch.nn.Module], config: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A part in evaluation mode, with any weights of a type; errors as of :func:`made_without_memory`."""
    part = _make(make, config).eval()
    cast_weights(part, dtype)
    return part


@contextmanager
def mode_of(part: torch.nn.Module) -> Iterator[None]:
    """Be in inference mode where weights of a part were made in it, and only there, while ``Module.to`` replaces them.

    What weights of the other kind are replaced with, torch can neither compute nor differentiate with.
    """
    with torch.inference_mode(any(value.is_inference() for value in part.parameters())):
        yield


def cast_weights(part: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give a part weights of another type, in place.

    Encoders of transformers keep those in float32 that overflow in float16 (``_keep_in_fp32_modules``, as of T5), and
    numbers that are not saved, such as frequencies of positions, in the type that they were computed in.
    """
    if isinstance(part, torch.nn.ModuleList):
        for each in part:
            cast_weights(each, dtype)
        return
    if not hasattr(part, "base_model_prefix"):
        # Not the method of diffusers, which warns of types that are kept even where there are none.
        with mode_of(part):
            torch.nn.Module.to(part, dtype)
        return
    kept = set(getattr(part, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    for name, tensor in part.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            with torch.inference_mode(tensor.is_inference()):
                tensor.data = tensor.data.to(torch.float32 if kept & set(name.split(".")) else dtype)


@dataclass(frozen=True)
class Expected:
    """What a network has to be given.

    Attributes:
        shapes: Of its weights, by name.
        tied: The first name of each weight that has several, by name.
        unused: Patterns of names that files may hold beside these.
        counts: Names of those that are whole numbers, such as how many batches a normalization has seen.
    """

    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    unused: tuple[str, ...]
    counts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, network: torch.nn.Module) -> Expected:
        """That of a network."""
        kind = type(network).__name__
        shapes: dict[str, tuple[int, ...]] = {}
        tied: dict[str, str] = {}
        first: dict[int, str] = {}
        held = network.state_dict(keep_vars=True)
        for name, value in held.items():
            shapes[name] = tuple(value.shape)
            tied[name] = first.setdefault(id(value), name)
        counts = frozenset(name for name, value in held.items() if value.dtype == torch.int64)
        unused = (*(getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()), *_SHARED.get(kind, ()))
        return cls(shapes, tied, unused, counts)

    def missing(self, found: Iterable[str]) -> list[str]:
        """Names of weights that are not among those found, under none of their names."""
        known = {self.tied.get(name) for name in found}
        return sorted(name for name, first in self.tied.items() if first not in known)

    def needs(self, name: str) -> bool:
        """Whether a weight of this name is one of the network, or could be taken for one."""
        ignored = _UNUSED.match(name) or any(re.search(pattern, name) for pattern in self.unused)
        return name in self.shapes or not ignored


def check_finite(where: str, values: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise a :class:`LoadError` that names the first tensor with NaN or Inf."""
    known = [(name, value) for name, value in values if value.numel() and value.is_floating_point()]
    bounds = [torch.stack(torch.aminmax(value.detach())).float() for _, value in known]
    for (name, _), bound in zip(known, torch.stack(bounds).tolist() if bounds else (), strict=True):
        if not all(map(math.isfinite, bound)):
            raise LoadError(f"load: {where}: weights must be finite, got NaN or Inf in {name}")


# Where functions are that fill new weights; transformers has its own in place of those of torch for a while.
_INITIAL = (torch.nn.init.__name__, "transformers.initialization")


class _Unfilled(TorchFunctionMode):
    """Leaves new weights as they are: random numbers take time, and all weights come from files."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) in _INITIAL:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _make(make: Callable[[], torch.nn.Module], config: Path) -> torch.nn.Module:
    try:
        with _Unfilled():
            return make()
    except Exception as error:
        # Constructors of diffusers and transformers raise many kinds.
        lines = str(error).strip().splitlines() or [""]
        raise LoadError(
            f"load: {str(config)!r} must be the configuration of a network, got {type(error).__name__}: {lines[0]}"
        ) from error


def _files(folder: Path, stem: str, variant: str | None) -> dict[Path, set[str] | None]:
    """The file of weights, or those that an index lists, each with the names of weights it has there."""
    ending = f".{variant}" if variant else ""
    whole, index = folder / f"{stem}{ending}.safetensors", folder / f"{stem}.safetensors.index{ending}.json"
    if whole.exists() or not index.exists():
        if not whole.exists():
            raise LoadError(f"load: folder must hold safetensors weights, got no {str(whole)!r}{_hint(folder, stem)}")
        return {whole: None}
    with reading():
        listed = read_json("load", index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise LoadError(f"load: {str(index)!r}: weight_map must be a JSON object of file names")
    names: dict[str, set[str]] = {}
    for weight, file in listed.items():
        names.setdefault(str(file), set()).add(weight)
    for name in names:
        if name != os.path.basename(name) or not name.endswith(".safetensors") or not (folder / name).exists():
            missing = name == os.path.basename(name) and name.endswith(".safetensors")
            raise LoadError(
                f"load: {str(index)!r}: weight_map must name safetensors files beside it, got {name[:60]!r}"
                f"{', which is not there: fetch or copy it again' if missing else ''}"
            )
    return {folder / name: names[name] for name in sorted(names)}


def _hint(folder: Path, stem: str) -> str:
    """What to do where there are other weights than those that are looked for."""
    held = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    pattern = re.compile(rf"{re.escape(stem)}(?:\.safetensors\.index)?\.(\w+)\.(?:safetensors|json)")
    variants = sorted({found[1] for name in held if (found := pattern.fullmatch(name))} - {"safetensors"})
    if variants:
        return f"; there are weights of {' and '.join(variants)}: give variant={variants[0]!r}"
    if any(f"{stem}.safetensors" in name for name in held):
        return "; there are weights without a variant: leave it out"
    if any(name.endswith((".bin", ".bin.index.json")) for name in held):
        return (
            "; pickled weights (.bin) are never read: where you trust them, convert them with diffusers, by "
            "from_pretrained(folder) and save_pretrained(other_folder, safe_serialization=True)"
        )
    return ""


def names_of(
    given: Iterable[str], expected: Expected, rename: Callable[[str], str] = lambda name: name
) -> dict[str, str]:
    """What the network calls tensors, by the names that they have in a file; without those that it does not need."""
    found = {}
    for name in given:
        new = _OLD.sub(lambda match: f".{_OLD_NAMES[match[1]]}.{match[2]}", name)
        tries = (name, rename(name), new, _TEXT + name, name.removeprefix(_TEXT))
        known = next((n for n in tries if n in expected.shapes), name)
        if expected.needs(known):
            found[name] = known
    return found


def check_fit(
    config: Path, headers: Mapping[Path, Header], names: Mapping[Path, dict[str, str]], expected: Expected
) -> None:
    """Raise a :class:`LoadError` unless files hold what a network has to be given, in its shapes.

    Args:
        config: File of its configuration, for messages.
        headers: Of the files.
        names: As :func:`names_of` gives them, of each file.
        expected: By the network.
    """
    found = [known for file in names for known in names[file].values()]
    places = ", ".join(repr(str(file)) for file in list(headers)[:2])
    start = f"load: safetensors weights must fit {str(config)!r}, got"
    if any(_IMAGE_PROMPT.search(name) for name in set(found) - expected.shapes.keys()):
        raise LoadError(
            f"load: folder must hold no weights of an IP-Adapter, got some in {places}: load the pipeline and the "
            "adapter by diffusers (load_ip_adapter), and the pipeline object by latentjac.load"
        )
    if any(".base_layer." in name for name in set(found) - expected.shapes.keys()):
        raise LoadError(
            f"load: folder must hold no weights that were saved while an adapter (LoRA) was on, got such in {places}, "
            "which diffusers does not read either: save the pipeline after pipeline.unload_lora_weights(), and give "
            "the adapter as lora, from pipeline.save_lora_weights; or after pipeline.fuse_lora() and then "
            "unload_lora_weights()"
        )
    for kind, wrong in (
        ("without", expected.missing(found)),
        ("with unexpected", sorted(set(found) - expected.shapes.keys())),
        ("more than one", sorted({name for name in found if found.count(name) > 1} if len(names) > 1 else ())),
    ):
        if wrong:
            raise LoadError(f"{start} {places} {kind} {wrong[0]} ({len(wrong)} such names)")
    for file, header in headers.items():
        for name, known in names[file].items():
            entry = header.entries[name]
            if entry.shape != expected.shapes[known]:
                shapes = f"{list(expected.shapes[known])}, got {list(entry.shape)}"
                raise LoadError(
                    f"load: {str(file)!r}: {name} must have the shape that {str(config)!r} gives it, {shapes}"
                )
            is_count = known in expected.counts
            if not (entry.dtype == torch.int64 if is_count else entry.dtype.is_floating_point):
                wanted = "int64" if is_count else "a floating type"
                raise LoadError(f"load: {str(file)!r}: {name} must be of {wanted}, got {entry.dtype}")


def _copy(file: Path, header: Header, names: Mapping[str, str], state: Mapping[str, torch.Tensor]) -> None:
    def same(found: Header) -> None:
        if found != header:
            raise ValueError("it changed while it was read")

    with reading():
        fill(file, read_tensors("load", file, "safetensors weights", same), names, state)


def fill(
    file: Path, tensors: Iterable[tuple[str, torch.Tensor]], names: Mapping[str, str], state: Mapping[str, torch.Tensor]
) -> None:
    """Write tensors of a file into those of a network; raise a :class:`LoadError` that names the first with NaN or Inf.

    Args:
        file: Where they are from, for messages.
        tensors: With their names.
        names: What the network calls them; others are left out.
        state: The network's.
    """
    for name, tensor in tensors:
        if name in names:
            state[names[name]].copy_(tensor)
    check_finite(repr(str(file)), ((known, state[known]) for known in names.values()))
