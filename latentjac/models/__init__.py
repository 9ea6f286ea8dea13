"""Networks, their schedules and codecs, and the taps on them."""

from latentjac.models.classes import Classes
from latentjac.models.codec import ImageInput, PixelCodec, decoder_map, to_frames, to_pil
from latentjac.models.conditioning import ClassifierFree, Conditioning, ImageGuidance, RescaledGuidance
from latentjac.models.errors import LoadError
from latentjac.models.guidance import Denoiser, Guided, GuidedByImage
from latentjac.models.image_prompts import ImageEncoder
from latentjac.models.latents import LatentCodec
from latentjac.models.layers import resolve_layer
from latentjac.models.loading import builtin_models, load
from latentjac.models.model import Model
from latentjac.models.picture_files import open_image
from latentjac.models.predictions import Prediction
from latentjac.models.prepare import PreparedImage, prepare_image
from latentjac.models.sound import SoundCodec
from latentjac.models.t5 import T5TextEncoder
from latentjac.models.text import TextEncoder
from latentjac.models.video import VideoCodec, VideoLatentCodec

__all__ = [
    "Classes",
    "ClassifierFree",
    "Conditioning",
    "Denoiser",
    "Guided",
    "GuidedByImage",
    "ImageEncoder",
    "ImageGuidance",
    "ImageInput",
    "LatentCodec",
    "LoadError",
    "Model",
    "PixelCodec",
    "Prediction",
    "PreparedImage",
    "RescaledGuidance",
    "SoundCodec",
    "T5TextEncoder",
    "TextEncoder",
    "VideoCodec",
    "VideoLatentCodec",
    "builtin_models",
    "decoder_map",
    "load",
    "open_image",
    "prepare_image",
    "resolve_layer",
    "to_frames",
    "to_pil",
]
