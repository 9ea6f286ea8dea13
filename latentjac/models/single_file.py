"""Models from one safetensors file in the layout of their authors, by the conversions of diffusers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from latentjac.models.errors import LoadError, reading
from latentjac.models.folders import PipelineFolder, Read
from latentjac.models.mistaken import is_textual_inversion
from latentjac.models.pipeline import Parts
from latentjac.models.weights import Expected, check_fit, fill, made_without_memory, make_part, names_of
from latentjac.tensor_files import Entry, Header, read_header, read_tensors

ENDING = ".safetensors"
PICKLED = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
_OTHER_NAMES = re.compile(r"(^|[._])(lora|lokr|loha|hada|dora|oft)([._]|$)")  # of weights of adapters
_MEANS = "model_ema."  # running means of the weights, beside them
_PROJECTION = "text_projection.weight"
_T5 = "text_encoders.t5xxl.transformer."
_FIRST_OF_SD3 = "text_encoders.clip_l.transformer."
# Where encoders of CLIP are, and whether they are in the layout of OpenCLIP; of the first encoder and of the second.
_CLIP = {
    "text_encoder": (
        ("cond_stage_model.transformer.", False),
        ("conditioner.embedders.0.transformer.", False),
        (_FIRST_OF_SD3, False),
        ("cond_stage_model.model.", True),
    ),
    "text_encoder_2": (
        ("conditioner.embedders.1.model.", True),
        ("conditioner.embedders.0.model.", True),
        ("text_encoders.clip_g.transformer.", False),
    ),
}

Tensors = Mapping[str, torch.Tensor]


class Checkpoint:
    """A file of the weights of several parts, whose header was checked.

    Attributes:
        path: The file.

    Args:
        path: The file.

    Raises:
        LoadError: If it is no safetensors file, or one of an adapter or of embeddings of words.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix.lower() in PICKLED:
            raise LoadError(
                f"load: source must be a safetensors file, got {str(path)!r}: pickled weights are never read; where "
                "you trust them, convert them with diffusers, by StableDiffusionPipeline.from_single_file(file) or the "
                "like and save_pretrained(folder)"
            )
        with reading():
            self._header = read_header("load", path)
        adapter = next((name for name in self._header.entries if _OTHER_NAMES.search(name)), None)
        if adapter is not None:
            raise LoadError(
                f"load: source must hold the weights of a model, got those of an adapter (LoRA) in {str(path)!r}, such "
                f"as {adapter[:80]}: load a pipeline by diffusers, add them by pipeline.load_lora_weights(file), and "
                "give the pipeline object to latentjac.load"
            )

        if is_textual_inversion({name: entry.shape for name, entry in self._header.entries.items()}):
            raise LoadError(
                f"load: source must hold the weights of a model, got embeddings of words (textual inversion) in "
                f"{str(path)!r}: load a pipeline by diffusers, add them by pipeline.load_textual_inversion(file), and "
                "give the pipeline object to latentjac.load"
            )

    @cached_property
    def shapes(self) -> dict[str, torch.Tensor]:
        """Its tensors without memory, on the device ``"meta"``."""
        return {
            name: torch.empty(entry.shape, dtype=entry.dtype, device="meta")
            for name, entry in self._header.entries.items()
            if not name.startswith(_MEANS)
        }

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors, on the CPU; raises a LoadError if it changed since."""

        def same(found: Header) -> None:
            if found != self._header:
                raise ValueError("it changed while it was read")

        with reading():
            found = read_tensors("load", self.path, "safetensors weights", same)
            return {name: tensor for name, tensor in found if not name.startswith(_MEANS)}

    def hub_id(self) -> str | None:
        """The pipeline whose configurations suit the file best, as diffusers knows it."""
        from diffusers.loaders.single_file_utils import fetch_diffusers_config

        try:
            return str(fetch_diffusers_config(self.shapes)["pretrained_model_name_or_path"])
        except Exception:  # it looks for more than files of other kinds have
            return None


def read_file(checkpoint: Checkpoint, folder: PipelineFolder) -> Parts:
    """The parts of a model: from the file what it holds, and the rest from a pipeline folder.

    Args:
        checkpoint: The file.
        folder: Which says of what parts the model is made, and holds configurations and tokenizers.

    Raises:
        LoadError: If weights are missing, or files cannot be or do not fit together.
    """
    with_weights = [name for name in folder.kinds if folder.has_weights(name)]
    plans = {name: _plan(checkpoint, folder, name) for name in with_weights}
    given = {name: read for name, read in plans.items() if read is not None}
    held = {name: _holds_weights(folder.path / name) for name in with_weights if name not in given}
    if not given or not all(held.values()):
        parts = f"those of {list(given)} alone" if given else "none of its parts"
        raise LoadError(
            f"load: source must hold the weights of {with_weights}, or config those that it lacks, got {parts} in "
            f"{str(checkpoint.path)!r} and none of {[name for name in held if not held[name]]} in {str(folder.path)!r}"
        )
    return folder.read(given)


def _holds_weights(folder: Path) -> bool:
    """Whether there are weights of any kind; which they are is for those to check that read them."""
    return any(folder.glob(f"*{ENDING}")) or any(folder.glob("*.bin"))


def _plan(checkpoint: Checkpoint, folder: PipelineFolder, name: str) -> Read | None:
    """What reads a part from the file, after a look at names and shapes; None where the file does not hold it."""
    if folder.is_several(name):  # which no such file holds
        return None
    make, config, dtype = folder.maker(name), folder.path / name / "config.json", folder.dtype_of(name)
    network = made_without_memory(make, config)
    expected = Expected.of(network)
    converted = _conversion(name, network, expected, checkpoint.shapes)
    if converted is None:
        return None
    header = Header(
        {key: Entry(t.dtype, tuple(t.shape), 0, 0) for key, t in converted(checkpoint.shapes).items()}, {}, 0
    )
    names = names_of(header.entries, expected)
    check_fit(config, {checkpoint.path: header}, {checkpoint.path: names}, expected)

    def read() -> Any:
        part = make_part(make, config, dtype)
        fill(checkpoint.path, converted(checkpoint.tensors).items(), names, part.state_dict())
        return part

    return read


def _conversion(
    name: str, network: torch.nn.Module, expected: Expected, shapes: Tensors
) -> Callable[[Tensors], dict[str, torch.Tensor]] | None:
    """What makes weights of a part of the tensors of a file; None where the file has none."""
    if not expected.missing(names_of(shapes, expected).values()):
        return lambda tensors: {key: tensors[key] for key in tensors if key in expected.shapes}
    tries = _of_encoders(name, network, expected) if hasattr(network, "base_model_prefix") else _of_networks(network)
    for convert in tries:
        try:
            found = names_of(convert(shapes), expected).values()
        except Exception:  # of many kinds: conversions look for names that other files do not have
            continue
        if any(key in expected.shapes for key in found):
            return convert
    return None


def _of_networks(network: Any) -> list[Callable[[Tensors], dict[str, torch.Tensor]]]:
    """The conversion of diffusers for a class of networks, if it has one."""
    import diffusers
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES as KNOWN

    kind = next((kind for kind in KNOWN if isinstance(network, getattr(diffusers, kind, ()))), None)
    if kind is None:
        return []
    return [lambda tensors: KNOWN[kind]["checkpoint_mapping_fn"](checkpoint=dict(tensors), config=dict(network.config))]


def _of_encoders(name: str, network: Any, expected: Expected) -> list[Callable[[Tensors], dict[str, torch.Tensor]]]:
    """Those for an encoder of text: T5's, or those of CLIP in the order of their places."""
    if not type(network).__name__.startswith("CLIPText"):
        return [lambda tensors: _behind(tensors, _T5)]

    def of_clip(prefix: str, is_open: bool) -> Callable[[Tensors], dict[str, torch.Tensor]]:
        def convert(tensors: Tensors) -> dict[str, torch.Tensor]:
            if is_open:
                from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

                return dict(convert_open_clip_checkpoint(network, dict(tensors), prefix=prefix))
            found = _behind(tensors, prefix)
            given = found.pop(_PROJECTION, None)
            if found and prefix == _FIRST_OF_SD3 and _PROJECTION in expected.shapes:  # for which diffusers takes this
                table = next(t for key, t in found.items() if key.endswith("position_embedding.weight"))
                given = torch.eye(table.shape[-1], device=table.device, dtype=table.dtype)
            if given is not None and _PROJECTION in expected.shapes:
                found[_PROJECTION] = given
            return found

        return convert

    return [of_clip(*place) for place in _CLIP.get(name, ())]


def _behind(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
