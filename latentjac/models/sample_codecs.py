"""The codec of a network's samples, and their shape, from its configuration and that of its autoencoder."""

from __future__ import annotations

from typing import Any

from latentjac.models import autoencoders
from latentjac.models.adapters import PIXEL_UNET, family_of
from latentjac.models.configs import check_part
from latentjac.models.errors import LoadError
from latentjac.models.latents import LatentCodec
from latentjac.models.prepare import Size
from latentjac.models.sound import SoundCodec
from latentjac.models.spectrograms import SpectrogramCodec, Vocoded
from latentjac.models.video import VideoLatentCodec


def codec_and_shape(
    network: Any, autoencoder: Any, size: Size | None, frames: int | None
) -> tuple[LatentCodec | VideoLatentCodec | SoundCodec | None, tuple[int, ...]]:
    """The codec of latents, if there are any, and the shape of samples; of pictures of a size, if there is one.

    Args:
        network: The denoiser.
        autoencoder: Of its samples, or None.
        size: Height and width of pictures; by default those of the configuration.
        frames: Of a video; by default those of the configuration.

    Raises:
        ValueError: If size or frames is not one that the autoencoder takes, or the media have none.
        LoadError: If the autoencoder does not belong to the network.
    """
    media = (family_of(network) or PIXEL_UNET).media
    if media == "videos":
        return _of_videos(network, autoencoder, size, frames)
    if frames is not None:
        raise ValueError(f"load: frames must be left at None for networks of {media}, got {frames}")
    if media == "sound":
        return _of_sound(network, autoencoder, size)
    return _of_pictures(network, autoencoder, size)


def _of_pictures(network: Any, autoencoder: Any, size: Size | None) -> tuple[LatentCodec | None, tuple[int, ...]]:
    """The codec of latents, if there are any, and the shape of samples; of pictures of a size, if there is one."""
    family = family_of(network) or PIXEL_UNET
    own = family.sample_shape
    if autoencoder is None:
        return None, own(network) if size is None else (network.config["in_channels"], *size)
    try:
        check_part(f"config of {type(autoencoder).__name__}", autoencoder.config)
        codec = LatentCodec(autoencoder, 1)  # whose pictures are those of one latent
    except (TypeError, ValueError) as error:
        raise LoadError(f"load: {str(error).removeprefix('LatentCodec: ')}") from error
    factor, channels = codec.size[0], codec.latent_channels
    if size is None:
        shape = own(network)
    elif size[0] % factor or size[1] % factor:
        kind = type(autoencoder).__name__
        raise ValueError(f"load: size must be of multiples of {factor}, the pixels of a latent of {kind}, got {size}")
    else:
        shape = (channels, size[0] // factor, size[1] // factor)
    if shape[0] != channels:
        raise LoadError(
            f"load: autoencoder must have latents of {shape[0]} channels, as the network's samples have, got {channels}"
        )
    return LatentCodec(autoencoder, (shape[1], shape[2]), shifted=family.shifted), shape


def _of_videos(
    network: Any, autoencoder: Any, size: Size | None, frames: int | None
) -> tuple[VideoLatentCodec | None, tuple[int, ...]]:
    """The same of videos; what is not given is as in the network's own shape."""
    channels, *own = (family_of(network) or PIXEL_UNET).sample_shape(network)
    if autoencoder is None:
        return None, (channels, own[0] if frames is None else frames, *(own[1:] if size is None else size))
    try:
        check_part(f"config of {type(autoencoder).__name__}", autoencoder.config)
        codec = VideoLatentCodec(autoencoder, (1, 1, 1))
        each, factor = autoencoders.video_kind_of(autoencoder).factors(autoencoder)
    except (TypeError, ValueError) as error:
        raise LoadError(f"load: {str(error).removeprefix('VideoLatentCodec: ')}") from error
    kind, group = type(autoencoder).__name__, each * autoencoders.video_kind_of(autoencoder).together
    if frames is not None and (frames - 1) % group:
        raise ValueError(f"load: frames must be a multiple of {group}, as {kind} takes them, and 1, got {frames}")
    if size is not None and (size[0] % factor or size[1] % factor):
        raise ValueError(f"load: size must be of multiples of {factor}, the pixels of a latent of {kind}, got {size}")
    if codec.latent_channels != channels:
        raise LoadError(
            f"load: autoencoder must have latents of {channels} channels, as the network's samples have, "
            f"got {codec.latent_channels}"
        )
    latents = own[0] if frames is None else (frames - 1) // each + 1
    height, width = own[1:] if size is None else (size[0] // factor, size[1] // factor)
    return VideoLatentCodec(autoencoder, (latents, height, width)), (channels, latents, height, width)


def _of_sound(network: Any, autoencoder: Any, size: Size | None) -> tuple[SoundCodec | None, tuple[int, ...]]:
    """The same of sound, whose length is the network's own."""
    if size is not None:
        raise ValueError(f"load: size must be left at None for networks of sound, got {size}")
    shape = (family_of(network) or PIXEL_UNET).sample_shape(network)
    codec: SoundCodec | None = None
    if isinstance(autoencoder, Vocoded):
        shape = (*shape[:-1], autoencoder.bands // autoencoders.factor_of(autoencoder.vae))
        codec = SpectrogramCodec(autoencoder, (shape[1], shape[2]))
    elif autoencoder is not None:
        codec = SoundCodec(autoencoder, shape[1])
    if codec is not None and codec.latent_channels != shape[0]:
        raise LoadError(
            f"load: autoencoder must have latents of {shape[0]} channels, as the network's samples have, "
            f"got {codec.latent_channels}"
        )
    return codec, shape
