"""From a name, a folder, a hub id or loaded objects to a :class:`Model`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from latentjac.models.codec import PixelCodec
from latentjac.models.model import Model, takes_only_sample_and_timestep

_BUILTIN = Path(__file__).parent / "builtin"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class LoadError(RuntimeError):
    """A model could not be found, fetched or understood."""


def builtin_models() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(p.parent.name for p in _BUILTIN.glob("*/model_index.json"))


def load(
    source: Any,
    scheduler: Any = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Model:
    """Load a diffusion model.

    Args:
        source: A built-in name (``"faces"``), a diffusers pipeline folder, a hub id (``"owner/name"``), a
            diffusers pipeline object, or a denoising network (then with its scheduler).
        scheduler: The scheduler of a network; only with a network.
        dtype: Type of the weights; float32 for files, unchanged for objects by default.
        device: Where the network runs; the CPU for files, unchanged for objects by default.
        revision: Hub revision.
        variant: Weight variant such as ``"fp16"``.
        cache_dir: Hub cache; the Hugging Face environment variables are honoured.
        local_files_only: Do not ask the hub.
        token: Hub token.

    Returns:
        The model. The network of an object is not copied: it is put in evaluation mode, its gradients off.

    Raises:
        TypeError: If source is none of these, or a scheduler comes with something else than a network.
        LoadError: If the source cannot be found, fetched or understood. Pickled weights are never read.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"load: dtype must be a floating torch.dtype, got {dtype!r}")
    if isinstance(source, torch.nn.Module):
        if scheduler is None:
            raise TypeError("load: scheduler must be given with a network, got None")
        return _assemble(type(source).__name__, source, scheduler, dtype, device)
    if scheduler is not None:
        raise TypeError(f"load: scheduler must be None unless source is a network, got {type(scheduler).__name__}")
    if hasattr(source, "components") and hasattr(source, "scheduler"):
        return _from_pipeline(source, dtype, device)
    if not isinstance(source, (str, Path)):
        raise TypeError(
            f"load: source must be a built-in name, folder, hub id, pipeline or network, got {type(source).__name__}"
        )
    if str(source) in builtin_models():
        folder = _BUILTIN / str(source)
    elif Path(source).is_dir():
        folder = Path(source)
    elif _HUB_ID.fullmatch(str(source)) and not Path(source).exists():
        options = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
        folder = _download(str(source), variant, options)
    else:
        raise LoadError(
            f"load: source must be a built-in name {builtin_models()}, an existing folder or a hub id 'owner/name', "
            f"got {str(source)!r}"
        )
    return _from_folder(str(source), folder, variant, dtype, device)


def _download(hub_id: str, variant: str | None, options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    weights = f"*.{variant}.safetensors" if variant else "*.safetensors"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", weights], **options))
    except Exception as error:
        # Whatever went wrong in there (offline, gated, misspelt), the caller needs the same three ways out.
        raise LoadError(
            f"load: hub model {hub_id!r} is not in the local cache and could not be fetched "
            f"({type(error).__name__}); check the name and the connection, give a token, or pass a local folder"
        ) from error


def _from_folder(
    name: str, folder: Path, variant: str | None, dtype: torch.dtype | None, device: torch.device | str | None
) -> Model:
    from diffusers import DDIMScheduler, UNet2DModel

    index = folder / "model_index.json"
    if not index.is_file():
        raise LoadError(f"load: folder must hold a diffusers pipeline (model_index.json), got {str(folder)!r}")
    try:
        entries = json.loads(index.read_text())
    except ValueError as error:
        raise LoadError(f"load: {index} must be JSON, got {error}") from error
    kind = (entries.get("unet") or [None, None])[1]
    if kind != "UNet2DModel":
        raise LoadError(
            f"load: pipeline must have an unconditional pixel network (unet: UNet2DModel), got "
            f"{entries.get('_class_name')} with unet: {kind}"
        )
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise LoadError(f"load: folder must hold scheduler/scheduler_config.json, got none in {str(folder)!r}")
    try:
        unet = UNet2DModel.from_pretrained(
            folder / "unet",
            use_safetensors=True,
            variant=variant,
            torch_dtype=dtype or torch.float32,
            low_cpu_mem_usage=False,
        )
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoadError(f"load: {str(folder)!r} must hold safetensors weights that fit its config: {reason}") from error
    return _assemble(name, unet, scheduler, dtype, device)


def _from_pipeline(pipeline: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> Model:
    network = getattr(pipeline, "unet", None)
    if network is None or not takes_only_sample_and_timestep(network):
        raise LoadError(
            f"load: pipeline must have an unconditional pixel network (unet: UNet2DModel), got "
            f"{type(pipeline).__name__} with unet: {type(network).__name__}"
        )
    return _assemble(type(pipeline).__name__, network, pipeline.scheduler, dtype, device)


def _assemble(
    name: str, network: torch.nn.Module, scheduler: Any, dtype: torch.dtype | None, device: torch.device | str | None
) -> Model:
    if not takes_only_sample_and_timestep(network):
        raise LoadError(
            f"load: network must be callable with a sample and a timestep alone, got {type(network).__name__}"
        )
    config = getattr(network, "config", None)
    if config is None or not config.get("sample_size") or not config.get("in_channels"):
        raise LoadError(
            f"load: network must have a config with sample_size and in_channels, got {type(network).__name__}"
        )
    if not hasattr(scheduler, "alphas_cumprod"):
        raise LoadError(
            f"load: scheduler must have alphas_cumprod (DDPM, DDIM and relatives), got {type(scheduler).__name__}"
        )
    size = config["sample_size"]
    if not isinstance(size, int):
        if size[0] != size[1]:
            raise LoadError(f"load: network must take square samples, got sample_size {tuple(size)}")
        size = size[0]
    codec = PixelCodec(size, config["in_channels"])
    if dtype is not None and next(network.parameters()).dtype != dtype:
        network = network.to(dtype=dtype)
    return Model(name, network.to(device=device) if device is not None else network, scheduler, codec)
