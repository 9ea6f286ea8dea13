"""From a name, a folder, a hub id or loaded objects to a :class:`Model`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from latentjac.arguments import check_bool, check_device, check_dtype, check_int, check_kind, check_text, shown
from latentjac.models import autoencoders, mistaken
from latentjac.models.adapters import BY_HAND, PART_NAMES, family_of
from latentjac.models.configs import check_part, check_schedule
from latentjac.models.errors import LoadError
from latentjac.models.folders import PipelineFolder, read_network
from latentjac.models.ip_adapters import check_ip_adapters
from latentjac.models.lora import check_loras
from latentjac.models.model import Model
from latentjac.models.own_loaders import Scaled
from latentjac.models.parts import unwrapped
from latentjac.models.pipeline import Parts, parts_of
from latentjac.models.plain_weights import check_plain
from latentjac.models.prepare import Size, as_size
from latentjac.models.prompted import any_conditioning
from latentjac.models.sample_codecs import codec_and_shape
from latentjac.models.schedulers import check_scheduler, levels_of
from latentjac.models.single_file import ENDING, PICKLED, Checkpoint, read_file
from latentjac.models.video import MOST_FRAMES
from latentjac.models.weights import cast_weights, check_finite
from latentjac.public import made_on_cpu, public

_BUILTIN = Path(__file__).parent / "builtin"
# Of a hub repository: not the checkpoints in its root, which are as large again.
_FOLDERS = sorted({*PART_NAMES, *autoencoders.PARTS, "adapter_[1-9]", "controlnet_[1-9]"})
_WORDS = ("*.json", "*.txt", "*.model", "*.jinja")  # of tokenizers, beside weights
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class _Types(NamedTuple):
    """Types of weights; None leaves them as they are.

    Attributes:
        network: Of the denoiser, and of the encoder of prompts.
        autoencoder: Of the autoencoder.
    """

    network: torch.dtype | None
    autoencoder: torch.dtype | None


class _Adapters(NamedTuple):
    """Files of adapters for a folder, with their scales."""

    loras: Scaled
    ip_adapters: Scaled


def builtin_models() -> list[str]:
    """Names of the models that ship with the package.

    Example:
        >>> "faces" in latentjac.builtin_models()
        True
    """
    return sorted(p.parent.name for p in _BUILTIN.glob("*/model_index.json"))


@public
@made_on_cpu
def load(
    source: Any,
    scheduler: Any = None,
    *,
    config: str | Path | None = None,
    size: int | Size | None = None,
    frames: int | None = None,
    dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
    device: torch.device | str | None = None,
    lora: str | Path | Mapping[str, float] | Mapping[Path, float] | None = None,
    ip_adapter: str | Path | Mapping[str, float] | Mapping[Path, float] | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Model:
    """Load a diffusion model.

    Args:
        source: A built-in name (:func:`builtin_models` lists them), a diffusers pipeline folder, a single safetensors
            file in the layout of its authors, a hub id (the text ``"owner/name"``, where no such folder is), a
            diffusers pipeline object, or a denoising network or its folder (then with its scheduler). A ``~`` at the
            beginning is the user's home.
        scheduler: The scheduler of a network; only with a network or its folder.
        config: Of a single file: the pipeline folder with the configurations, scheduler and tokenizers that belong to
            it, and with the weights that it lacks; or a hub id, of which these small files are fetched. By default
            those of the model that diffusers takes the file for, if they are in the hub's cache.
        size: Height and width of pictures in pixels, or the side of a square, for networks that take several, as
            convolutional ones do; by default that of the network's configuration.
        frames: Of a video, for networks of videos; by default that of its pipeline in diffusers. Autoencoders take a
            multiple of so many frames as are one latent, and one more.
        dtype: Type of the weights; float32 for files, unchanged for objects by default. One of them under the names
            ``"network"`` and ``"autoencoder"`` gives that of each, as for autoencoders that overflow in float16; the
            encoder of prompts has the network's.
        device: Where the network runs; the CPU for files, unchanged for objects by default.
        lora: Low-rank adapters for a folder, file or hub id of a pipeline: a safetensors file or a folder with one, as
            ``save_lora_weights`` of diffusers writes them, or several of these as keys with their scales. Objects have
            theirs from ``pipeline.load_lora_weights``.
        ip_adapter: The same of IP-Adapters for U-Nets: a safetensors file, or several with their scales. The encoder of
            pictures is that of the pipeline, or else the folder ``image_encoder`` beside the first file.
        revision: Hub revision.
        variant: Weight variant such as ``"fp16"``.
        cache_dir: Hub cache; the Hugging Face environment variables are honoured.
        local_files_only: Do not ask the hub.
        token: Hub token.

    Returns:
        The model. The network of an object is not copied but put in evaluation mode, its gradients off. Of one that
        torch.compile or data parallelism wraps the network itself is taken.

    Raises:
        TypeError: If source is none of these, or a scheduler comes with something else than a network.
        ValueError: If the device is unknown or not there, or the network or autoencoder does not take pictures of the
            size, or so many frames.
        LoadError: If the source cannot be found, fetched or understood; it names file and key. Pickled weights are
            never read, and only for a hub id is a network touched. Objects whose weights are offloaded, cast at each
            call or quantized are refused, as are caches of features.

    Example:
        >>> latentjac.load("faces").sample_shape
        (3, 64, 64)
    """
    size = None if size is None else as_size("load", "size", size)
    frames = check_int("load", "frames", frames, 1, MOST_FRAMES, optional=True)
    dtypes = _check_dtypes(dtype)
    device = _check_device(device)
    for name, value in (("revision", revision), ("variant", variant), ("token", token)):
        check_text("load", name, value, optional=True)
    check_kind("load", "cache_dir", cache_dir, (str, Path), "a str or Path", optional=True)
    local_files_only = check_bool("load", "local_files_only", local_files_only)
    check_kind("load", "config", config, (str, Path), "a str or Path", optional=True)
    adapters = _Adapters(check_loras("load", lora), check_ip_adapters("load", ip_adapter))
    if config is not None and not _is_single_file(source):
        raise TypeError(f"load: config must be None unless source is a single file, got {shown(config)}")
    for argument, given, loader in (("lora", lora, "load_lora_weights"), ("ip_adapter", ip_adapter, "load_ip_adapter")):
        if given is not None and (scheduler is not None or not isinstance(source, (str, Path))):
            raise TypeError(
                f"load: {argument} must be None unless source is the folder, file or hub id of a pipeline; add it to "
                f"an object by {loader}, got {shown(given)}"
            )
    if isinstance(source, torch.nn.Module):
        source = unwrapped(source)
        if (expected := mistaken.of_object(source)) is not None:
            raise LoadError(f"load: source must be {expected}")
        if scheduler is None:
            raise TypeError("load: scheduler must be given with a network, got None")
        name, parts = type(source).__name__, Parts(source, scheduler)
        check_plain(name, source)
        check_finite(name, source.named_parameters())
    elif hasattr(source, "components") and hasattr(source, "scheduler"):
        _check_no_scheduler(scheduler)
        name, parts = type(source).__name__, parts_of(source)
        for part in filter(None, (parts.network, parts.autoencoder)):
            check_plain(type(part).__name__, part)
        check_finite(type(parts.network).__name__, parts.network.named_parameters())
    elif isinstance(source, (str, Path)):
        options = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
        stored = dtypes.network or torch.float32, dtypes.autoencoder or torch.float32
        if _is_single_file(source):
            _check_no_scheduler(scheduler)
            name, parts = str(source), _read_file(source, config, variant, stored, options, adapters)
        else:
            name, parts = str(source), _read(source, scheduler, variant, stored, options, adapters)
    else:
        _check_no_scheduler(scheduler)
        raise TypeError(
            f"load: source must be a built-in name, folder, hub id, pipeline or network, got {type(source).__name__}"
        )
    return _assemble(name, parts, size, frames, dtypes, device)


def _check_no_scheduler(scheduler: Any) -> None:
    if scheduler is not None:
        raise TypeError(
            f"load: scheduler must be None unless source is a network or its folder, got {type(scheduler).__name__}"
        )


def _read(
    source: str | Path,
    scheduler: Any,
    variant: str | None,
    dtypes: tuple[torch.dtype, torch.dtype],
    options: dict[str, Any],
    adapters: _Adapters,
) -> Parts:
    """The parts at a built-in name, in a folder or of a hub id; of the folder of a network with the scheduler."""
    folder = Path(os.path.expanduser(source))
    if str(source) in builtin_models():
        folder = _BUILTIN / str(source)
    elif scheduler is not None and _holds_a_network(folder):
        return Parts(read_network(folder, variant, dtypes[0]), scheduler)
    elif isinstance(source, str) and _HUB_ID.fullmatch(source) and not folder.exists():
        _check_no_scheduler(scheduler)
        folder = _download(source, variant, options)
    elif folder.is_file() and (expected := mistaken.of_file(folder)) is not None:
        raise LoadError(f"load: source must be {expected}")
    elif not folder.is_dir():
        raise LoadError(
            f"load: source must be a built-in name {builtin_models()}, an existing folder or a hub id 'owner/name', "
            f"got {str(source)!r}"
        )
    _check_no_scheduler(scheduler)
    _check_folder(folder)
    return PipelineFolder(folder, variant, dtypes, *adapters).read()


def _is_single_file(source: Any) -> bool:
    """Whether it is the name of a file of weights, there or not."""
    if not isinstance(source, (str, Path)):
        return False
    path = Path(os.path.expanduser(source))
    return path.suffix.lower() in (ENDING, *PICKLED) and not path.is_dir()


def _read_file(
    source: str | Path,
    config: str | Path | None,
    variant: str | None,
    dtypes: tuple[torch.dtype, torch.dtype],
    options: dict[str, Any],
    adapters: _Adapters,
) -> Parts:
    """The parts in a single file, and what it lacks of its ``config``."""
    checkpoint = Checkpoint(Path(os.path.expanduser(source)))
    folder = None if config is None else Path(os.path.expanduser(config))
    hub_id = checkpoint.hub_id() if folder is None else str(config)
    if folder is None and hub_id is not None:
        with contextlib.suppress(LoadError):  # which names a cache that nobody asked for
            folder = _download(hub_id, None, {**options, "local_files_only": True}, weights=False)
    elif folder is not None and not folder.exists() and isinstance(config, str) and _HUB_ID.fullmatch(config):
        folder = _download(config, None, options, weights=False)
    if folder is None or not folder.is_dir():
        such = f" such as {hub_id!r}" if folder is None and hub_id else ""
        raise LoadError(
            "load: config must be the pipeline folder that belongs to a single file, which needs no weights, or a hub "
            f"id{such}, of which small files are fetched, got {shown(config)} for {str(source)!r}"
        )
    _check_folder(folder)
    return read_file(checkpoint, PipelineFolder(folder, variant, dtypes, *adapters))


def _check_dtypes(dtype: Any) -> _Types:
    if not isinstance(dtype, Mapping):
        same = check_dtype("load", "dtype", dtype, optional=True)
        return _Types(same, same)
    if not set(dtype) <= set(_Types._fields):
        raise ValueError(f"load: dtype must have keys of {list(_Types._fields)}, got {shown(list(dtype))}")
    return _Types(*(check_dtype("load", f"dtype[{k!r}]", dtype.get(k), optional=True) for k in _Types._fields))


def _holds_a_network(folder: Path) -> bool:
    """Whether it is the folder of a network alone."""
    return os.path.isfile(folder / "config.json") and not os.path.exists(folder / "model_index.json")


def _check_device(given: torch.device | str | None) -> torch.device | None:
    device: torch.device | None = check_device("load", "device", given, optional=True)
    if device is not None and device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"load: device must be one that torch sees, got {str(device)!r}, but torch sees no GPU")
    return device


def _download(hub_id: str, variant: str | None, options: dict[str, Any], *, weights: bool = True) -> Path:
    from huggingface_hub import snapshot_download

    endings = [f"*.{variant}{part}.safetensors" for part in ("", "-*")] if variant else ["*.safetensors"]
    wanted = ["model_index.json", "scheduler/*.json"]
    wanted += [f"{name}/{kind}" for name in _FOLDERS for kind in (*_WORDS, *(endings if weights else ()))]
    kinds = () if variant else ("fp16", "bf16", "non_ema")
    others = [f"*.{kind}{part}.safetensors" for kind in kinds for part in ("", "-*")]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=others, **options))
    except Exception as error:
        # Whatever went wrong in there (offline, gated, misspelt), the caller needs the same three ways out.
        raise LoadError(
            f"load: hub model {hub_id!r} is not in the local cache and could not be fetched "
            f"({type(error).__name__}); check the name and the connection, give a token, or pass a local folder"
        ) from error


def _check_folder(folder: Path) -> None:
    for file in (mistaken.INDEX, "scheduler/scheduler_config.json"):
        if not (folder / file).exists():
            hint = mistaken.of_folder(folder) if file == mistaken.INDEX else ""
            raise LoadError(
                f"load: folder must hold a diffusers pipeline with safetensors weights, got {str(folder)!r} "
                f"without {file}{hint}"
            )


def _assemble(
    name: str, parts: Parts, size: Size | None, frames: int | None, dtypes: _Types, device: torch.device | None
) -> Model:
    network, scheduler = parts.network, parts.scheduler
    config = getattr(network, "config", None)
    known = family_of(network)
    shaped = known is not None and known.sized
    sized = size is not None or shaped or (config or {}).get("sample_size")
    if config is None or not sized or not (shaped or config.get("in_channels")):
        raise LoadError(
            f"load: network must have a config with sample_size and in_channels, got {type(network).__name__} "
            f"({BY_HAND})"
        )
    check_part(f"config of {type(network).__name__}", config)
    try:
        check_scheduler("load", scheduler)
        check_schedule(f"config of {type(scheduler).__name__}", scheduler.config)
        levels_of("load", scheduler)
    except (TypeError, ValueError) as error:
        raise LoadError(str(error)) from error
    codec, shape = codec_and_shape(network, parts.autoencoder, size, frames)
    try:
        model = Model(
            network, scheduler, sample_shape=shape, codec=codec, text=parts.text, image_encoder=parts.image_encoder,
            name=name,
        )  # fmt: skip
        model.noising = parts.noising
        model.guidance_scale = 1.0 if parts.unguided else model.guidance_scale
    except ValueError as error:
        raise LoadError(f"load: {str(error).removeprefix('Model: ')}") from error
    model.to(device)
    encoder = getattr(parts.text, "encoder", None)
    for part, dtype in (
        (network, dtypes.network),
        (encoder, dtypes.network),
        (parts.autoencoder, dtypes.autoencoder),
    ):
        if part is not None and dtype is not None:
            cast_weights(part, dtype)
    try:
        _try_out(model)
    except LoadError as error:
        if size is None:
            raise
        patch: Any = config.get("patch_size")
        patch = patch[-1] if isinstance(patch, (list, tuple)) else 1
        pixels = max(1, model.codec.size[0] // shape[-2])
        several = patch * pixels * 2 ** (len(config.get("block_out_channels") or [0]) - 1)
        raise ValueError(
            f"load: size must be one that the network takes, such as multiples of {several}, got {size} ({error})"
        ) from error
    return model


@torch.no_grad()
def _try_out(model: Model) -> None:
    """Raise unless the network takes a sample, a timestep and its conditioning, and predicts in the sample's shape."""
    channels, *sizes = model.sample_shape
    # Two frames of a video show as much as all.
    sizes = sizes if len(sizes) < 3 else [min(sizes[0], 2), *sizes[1:]]
    x = torch.zeros(1, channels, *sizes, dtype=model.dtype, device=model.device)
    kind, beside = type(model.network).__name__, "alone"
    try:
        c = any_conditioning(model)
        beside = f"with {', '.join(c)}" if c else beside
        called = model.levels.called(model.call)
        out = called(model.network, x, torch.tensor(0, device=x.device), c)
    except Exception as error:
        raise LoadError(
            f"load: network must be callable with a sample {list(x.shape)} and a timestep {beside}, got {kind}: {error}"
        ) from error
    if not isinstance(out, torch.Tensor) or out[:, : x.shape[1]].shape != x.shape:
        raise LoadError(f"load: network must return a tuple with a prediction {list(x.shape)} first, got {kind}")
