"""From a name, a folder, a hub id or loaded objects to a :class:`Model`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from latentjac.arguments import check_bool, check_device, check_dtype, check_kind, check_text
from latentjac.models.adapters import BY_HAND, NETWORK_PARTS
from latentjac.models.codec import PixelCodec
from latentjac.models.conditioning import Conditioning
from latentjac.models.configs import check_part, check_schedule
from latentjac.models.errors import LoadError
from latentjac.models.latents import LatentCodec
from latentjac.models.model import Model
from latentjac.models.pipeline import Parts, parts_of, read_parts
from latentjac.models.predictions import check_scheduler, prediction_of
from latentjac.models.prompted import blank_pictures, conditioning_under
from latentjac.models.weights import check_finite
from latentjac.public import made_on_cpu, public

_BUILTIN = Path(__file__).parent / "builtin"
# Of a hub repository: not the checkpoints in its root, which are as large again.
_FOLDERS = (*NETWORK_PARTS, "controlnet", "vae", "vqvae", "text_encoder", "text_encoder_2")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def builtin_models() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(p.parent.name for p in _BUILTIN.glob("*/model_index.json"))


@public
@made_on_cpu
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
        source: A built-in name (``"faces"``), a diffusers pipeline folder, a hub id (the text ``"owner/name"``, where
            no such folder is), a diffusers pipeline object, or a denoising network (then with its scheduler).
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
        ValueError: If the device is unknown or not there.
        LoadError: If the source cannot be found, fetched or understood; it names file and key. Pickled weights are
            never read, and only for a hub id is a network touched.
    """
    dtype = check_dtype("load", "dtype", dtype, optional=True)
    device = _check_device(device)
    for name, value in (("revision", revision), ("variant", variant), ("token", token)):
        check_text("load", name, value, optional=True)
    check_kind("load", "cache_dir", cache_dir, (str, Path), "a str or Path", optional=True)
    local_files_only = check_bool("load", "local_files_only", local_files_only)
    if isinstance(source, torch.nn.Module):
        if scheduler is None:
            raise TypeError("load: scheduler must be given with a network, got None")
        check_finite(type(source).__name__, source.named_parameters())
        return _assemble(type(source).__name__, Parts(source, scheduler), dtype, device)
    if scheduler is not None:
        raise TypeError(f"load: scheduler must be None unless source is a network, got {type(scheduler).__name__}")
    if hasattr(source, "components") and hasattr(source, "scheduler"):
        parts = parts_of(source)
        check_finite(type(parts.network).__name__, parts.network.named_parameters())
        return _assemble(type(source).__name__, parts, dtype, device)
    if not isinstance(source, (str, Path)):
        raise TypeError(
            f"load: source must be a built-in name, folder, hub id, pipeline or network, got {type(source).__name__}"
        )
    if str(source) in builtin_models():
        folder = _BUILTIN / str(source)
    elif Path(source).is_dir():
        folder = Path(source)
    elif isinstance(source, str) and _HUB_ID.fullmatch(source) and not Path(source).exists():
        options = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
        folder = _download(str(source), variant, options)
    else:
        raise LoadError(
            f"load: source must be a built-in name {builtin_models()}, an existing folder or a hub id 'owner/name', "
            f"got {str(source)!r}"
        )
    return _from_folder(str(source), folder, variant, dtype, device)


def _check_device(given: torch.device | str | None) -> torch.device | None:
    device: torch.device | None = check_device("load", "device", given, optional=True)
    if device is not None and device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"load: device must be one that torch sees, got {str(device)!r}, but torch sees no GPU")
    return device


def _download(hub_id: str, variant: str | None, options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    weights = f"*.{variant}.safetensors" if variant else "*.safetensors"
    wanted = ["model_index.json", "scheduler/*.json", "tokenizer/*", "tokenizer_2/*"]
    wanted += [f"{name}/{kind}" for name in _FOLDERS for kind in ("*.json", weights)]
    others = None if variant else [f"*.{kind}.safetensors" for kind in ("fp16", "bf16", "non_ema")]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=others, **options))
    except Exception as error:
        # Whatever went wrong in there (offline, gated, misspelt), the caller needs the same three ways out.
        raise LoadError(
            f"load: hub model {hub_id!r} is not in the local cache and could not be fetched "
            f"({type(error).__name__}); check the name and the connection, give a token, or pass a local folder"
        ) from error


def _from_folder(
    name: str, folder: Path, variant: str | None, dtype: torch.dtype | None, device: torch.device | None
) -> Model:
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        if not (folder / file).exists():
            raise LoadError(
                f"load: folder must hold a diffusers pipeline with safetensors weights, got {str(folder)!r} "
                f"without {file}"
            )
    return _assemble(name, read_parts(folder, variant, dtype or torch.float32), dtype, device)


def _assemble(name: str, parts: Parts, dtype: torch.dtype | None, device: torch.device | None) -> Model:
    network, scheduler = parts.network, parts.scheduler
    config = getattr(network, "config", None)
    if config is None or not config.get("sample_size") or not config.get("in_channels"):
        raise LoadError(
            f"load: network must have a config with sample_size and in_channels, got {type(network).__name__} "
            f"({BY_HAND})"
        )
    check_part(f"config of {type(network).__name__}", config)
    try:
        check_scheduler("load", scheduler)
        check_schedule(f"config of {type(scheduler).__name__}", scheduler.config)
        prediction_of("load", scheduler)
    except (TypeError, ValueError) as error:
        raise LoadError(str(error)) from error
    size = config["sample_size"]
    if not isinstance(size, int):
        if size[0] != size[1]:
            raise LoadError(f"load: network must take square samples, got sample_size {tuple(size)}")
        size = size[0]
    latent = parts.autoencoder is not None
    codec = LatentCodec(parts.autoencoder, size) if latent else PixelCodec(size, config["in_channels"])
    model = Model(network, scheduler, codec=codec, text=parts.text, name=name).to(device, dtype)
    _try_out(model)
    return model


@torch.no_grad()
def _try_out(model: Model) -> None:
    """Raise unless the network takes a sample, a timestep and a prompt if any, and predicts in the sample's shape."""
    x = torch.zeros(1, *model.sample_shape, dtype=model.dtype, device=model.device)
    kind, beside = type(model.network).__name__, "alone"
    try:
        c = Conditioning() if model.text is None else conditioning_under(model, None, "", 1.0, blank_pictures(model))
        beside = f"with {', '.join(c)}" if c else beside
        out = model.call(model.network, x, torch.tensor(0, device=x.device), c)
    except Exception as error:
        raise LoadError(
            f"load: network must be callable with a sample {list(x.shape)} and a timestep {beside}, got {kind}: {error}"
        ) from error
    if not isinstance(out, torch.Tensor) or out[:, : x.shape[1]].shape != x.shape:
        raise LoadError(f"load: network must return a tuple with a prediction {list(x.shape)} first, got {kind}")
