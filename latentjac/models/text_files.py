"""Tokenizers and encoders of text, and other parts of transformers, from the folder of a pipeline.

Encoders are made by their class and filled here: ``from_pretrained`` of transformers would follow what a configuration
says of adapters, quantization and kernels to other places.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from latentjac.files import open_file
from latentjac.models.configs import check_part, read_config
from latentjac.models.errors import LoadError, reading
from latentjac.models.weights import plan

TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
LARGEST_TOKENIZER = 2**27  # bytes of a file; that of Gemma 3 has 33 MB
_STRICT = 2**22  # bytes of JSON that is looked at before transformers reads it, which takes seconds for more
_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
# What decides on the network of a text encoder of CLIP; other keys, such as quantization, are not for weights as they
# are.
_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range",
    "initializer_factor", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
# Keys of others that name code, weights or kernels of other places, or how weights were packed.
_ELSEWHERE = frozenset((
    "attn_implementation", "auto_map", "backbone", "backbone_config", "backbone_kwargs", "compression_config",
    "distributed_config", "dtype", "experts_implementation", "fusion_config", "kernel_config", "name_or_path",
    "quantization_config", "torch_dtype", "transformers_weights", "use_pretrained_backbone", "use_timm_backbone",
))  # fmt: skip
_BASES = (
    "PreTrainedModel", "PreTrainedTokenizerBase", "FeatureExtractionMixin", "ImageProcessingMixin", "ProcessorMixin",
)  # fmt: skip
# Modules of diffusers with encoders that the signature of their pipeline does not name.
_MODULES = {"LDMBertModel": "diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion"}
# One of these is what a tokenizer is read from.
_WORDS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


class EncoderFiles:
    """Parts of transformers in the folder of a pipeline.

    Args:
        folder: The folder.
        pipeline: Class of the pipeline in diffusers.
        variant: Weight variant such as ``"fp16"``.
        dtype: Type of the weights.

    Raises:
        LoadError: If transformers is missing.
    """

    def __init__(self, folder: Path, pipeline: str, variant: str | None, dtype: torch.dtype) -> None:
        try:
            import transformers
        except ImportError as error:
            raise LoadError("load: models with text need transformers: pip install 'latentjac[text]'") from error
        self._transformers: Any = transformers
        self._folder, self._pipeline, self._variant, self._dtype = folder, pipeline, variant, dtype

    def plan(self, name: str, kind: str, known: tuple[str, ...]) -> Callable[[], Any]:
        """What reads a part, after a look at its files; a tokenizer is read at once.

        Args:
            name: What the pipeline calls it.
            kind: Its class.
            known: The classes that it can be of; without any, an encoder is of those that the pipeline names.

        Raises:
            LoadError: If the class is another one, or files cannot be or do not fit together.
        """
        made = self._class_of(name, kind)
        if self.has_weights(name, kind):
            self._check_class(name, made, known)
            return plan(self.maker(name, kind), self._config(name), "model", self._variant, self._dtype, renamed)
        words = self._read_words(name, made)
        return lambda: words

    def has_weights(self, name: str, kind: str) -> bool:
        """Whether a part is an encoder; errors as of :meth:`plan`."""
        return issubclass(self._class_of(name, kind), self._transformers.PreTrainedModel)

    def _class_of(self, name: str, kind: str) -> Any:
        bases = tuple(getattr(self._transformers, base) for base in _BASES)
        try:
            own = {of.__name__: of for of in classes_taken(self._pipeline, name, "diffusers")}
            places = import_module(_MODULES[kind]) if kind in _MODULES else self._transformers
            made = own.get(kind) or getattr(places, kind, None)
        except (ImportError, RuntimeError) as error:  # some need more than is installed
            raise LoadError(f"load: {name}: transformers must have {kind[:60]}, got {error}") from error
        if not isinstance(made, type) or not issubclass(made, bases):
            raise LoadError(
                f"load: {name} must be an encoder, a tokenizer or a processor of pictures of transformers, "
                f"got {kind[:60]!r}"
            )
        return made

    def _check_class(self, name: str, made: Any, known: tuple[str, ...]) -> None:
        """Raise unless an encoder is of a known class, or of one that the pipeline of diffusers takes."""
        taken = classes_taken(self._pipeline, name, "transformers")
        if made.__name__ not in known and (known or not issubclass(made, taken)):
            names = list(known) or [kind.__name__ for kind in taken]
            raise LoadError(
                f"load: {name} of a {self._pipeline[:60]} must be of {names} of transformers, got {made.__name__}"
            )

    def maker(self, name: str, kind: str) -> Callable[[], torch.nn.Module]:
        """What makes an encoder of its configuration, with any weights; errors as of :meth:`plan`."""
        made, path = self._class_of(name, kind), self._config(name)
        config = read_config(path)
        if kind in _CLIP:
            config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
            config = {key: value for key, value in config.items() if key in _KEYS}
        check_part(repr(str(path)), config)
        kept = _without_places(config)
        return lambda: made(made.config_class(**kept))

    def _config(self, name: str) -> Path:
        return self._folder / name / "config.json"

    def _read_words(self, name: str, made: Any) -> Any:
        """A tokenizer, or what prepares pictures for an encoder; of what prepares both the tokenizer."""
        if issubclass(made, self._transformers.ProcessorMixin):
            made = self._transformers.AutoTokenizer
        folder, is_clip = self._folder / name, made.__name__ in TOKENIZERS
        tokenizers = (self._transformers.PreTrainedTokenizerBase, self._transformers.AutoTokenizer)
        is_tokenizer = issubclass(made, tokenizers)
        _check_files(folder, _WORDS if is_tokenizer and not is_clip else ())
        encoder = self._config(name.replace("tokenizer", "text_encoder"))
        if is_clip:
            made = self._transformers.CLIPTokenizer
            _check_clip(folder, self._transformers.CLIPTextConfig(**_positions(encoder)).max_position_embeddings)
        try:
            words = made.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            # They raise many kinds, of files and of what is missing to read them.
            raw = not (folder / "tokenizer.json").exists() and any(folder.glob("*.model"))
            hint = " (files without tokenizer.json need: pip install sentencepiece protobuf)" if raw else ""
            lines = str(error).strip().splitlines() or [""]
            raise LoadError(f"load: {str(folder)!r} must hold a {made.__name__}, got {lines[0][:200]}{hint}") from error
        most = read_config(encoder).get("vocab_size") if encoder.exists() else None
        # Without words that were added: published tokenizers have some that no text holds.
        if is_tokenizer and type(most) is int and words.vocab_size > most:
            raise LoadError(
                f"load: {str(folder)!r} must hold at most vocab_size = {most} words, as {str(encoder)!r} says, "
                f"got {words.vocab_size}"
            )
        return words


def classes_taken(pipeline: str, name: str, library: str) -> tuple[type, ...]:
    """Classes of a library that a part can be of, as a pipeline of diffusers says it; none of other pipelines."""
    import diffusers

    made: Any = getattr(diffusers, pipeline, None)
    if not isinstance(made, type) or not issubclass(made, diffusers.DiffusionPipeline):
        return ()
    kinds = cast(Any, made)._get_signature_types().get(name, ())
    return tuple(kind for kind in kinds if isinstance(kind, type) and kind.__module__.startswith(f"{library}."))


def renamed(network: Any) -> Callable[[str], str]:
    """What transformers calls a weight now that files of older versions have under another name."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:  # before transformers 5
        return lambda name: name
    renamings = [rule for rule in get_model_conversion_mapping(network) if isinstance(rule, WeightRenaming)]
    return lambda name: str(rename_source_key(name, renamings, [])[0])


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what leads elsewhere, on all levels."""
    return {
        key: _without_places(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in _ELSEWHERE
    }


def _positions(path: Path) -> dict[str, int]:
    """``max_position_embeddings`` of CLIP, where its configuration has one."""
    config = read_config(path)
    config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    check_part(repr(str(path)), config)
    return {key: config[key] for key in ("max_position_embeddings",) if config.get(key) is not None}


def _check_files(folder: Path, one_of: tuple[str, ...]) -> None:
    """Raise unless a folder holds files in strict JSON and others, none so large or such that opening would wait."""
    held = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if one_of and not held & set(one_of):
        raise LoadError(
            f"load: folder must hold words of a tokenizer in one of {list(one_of)}, got none in {str(folder)!r}"
        )
    for name in sorted(held):
        path = folder / name
        if path.is_dir():
            continue
        with reading(), open_file("load", path) as file:
            size = file.seek(0, 2)
        if size > LARGEST_TOKENIZER:
            raise LoadError(f"load: {str(path)!r} must have at most {LARGEST_TOKENIZER} bytes, got {size}")
        if name.endswith(".json") and size <= _STRICT:
            read_config(path)
    path = folder / "tokenizer_config.json"
    length = read_config(path).get("model_max_length") if path.exists() else None
    if length is not None and not (type(length) in (int, float) and length >= 2):
        raise LoadError(f"load: {str(path)!r}: model_max_length must be a number from 2, got {length!r}")


def _check_clip(folder: Path, positions: int) -> None:
    """Raise unless a tokenizer of CLIP has its words, and texts of it fit into the positions of the encoder."""
    if not ((folder / "tokenizer.json").exists() or all((folder / n).exists() for n in ("vocab.json", "merges.txt"))):
        raise LoadError(
            f"load: folder must hold tokenizer.json, or vocab.json and merges.txt, got none in {str(folder)!r}"
        )
    path = folder / "tokenizer_config.json"
    length = read_config(path).get("model_max_length", positions) if path.exists() else positions
    if type(length) is not int or not 2 <= length <= positions:
        raise LoadError(f"load: {str(path)!r}: model_max_length must be an int in [2, {positions}], got {length!r}")
