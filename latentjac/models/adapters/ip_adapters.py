"""Embeddings of pictures that IP-Adapters (Ye et al. 2023) of a network get."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.models.adapters.family import BY_HAND
from latentjac.models.conditioning import Conditioning
from latentjac.models.errors import LoadError
from latentjac.models.image_prompts import EMBEDDING, Embedding, embedding_names, embeddings_in

# Projections of embeddings of pictures, and whether they take an embedding for each token.
_PROJECTIONS = {
    "ImageProjection": False,
    "IPAdapterFaceIDImageProjection": False,
    "IPAdapterFullImageProjection": True,
    "IPAdapterPlusImageProjection": True,
}


def of_projections(network: Any) -> dict[str, Embedding]:
    """Those of a network with a projection for each adapter, ``encoder_hid_proj``."""
    layers = getattr(getattr(network, "encoder_hid_proj", None), "image_projection_layers", ())
    return dict(zip(embedding_names(len(layers)), map(_embedding, layers), strict=True))


def from_black(network: Any) -> dict[str, Embedding]:
    """The same where guidance leads away from a black picture: of Flux and Chroma."""
    return {name: Embedding(found.shape, away="black") for name, found in of_projections(network).items()}


def of_resampler(network: Any) -> dict[str, Embedding]:
    """That of a network with one adapter of tokens, ``image_proj``: of Stable Diffusion 3."""
    projection = getattr(network, "image_proj", None)
    return {} if projection is None else {EMBEDDING: Embedding((1, 1, projection.proj_in.in_features))}


def given(conditioning: Conditioning) -> dict[str, Any]:
    """What a transformer with a projection for each adapter is called with beside everything else."""
    return _told(embeddings_in(conditioning))


def given_tokens(conditioning: Conditioning) -> dict[str, Any]:
    """The same of one with one adapter, which gets the tokens of all pictures behind each other."""
    return _told(conditioning[EMBEDDING].flatten(1, 2)) if EMBEDDING in conditioning else {}


def _told(pictures: list[torch.Tensor] | torch.Tensor) -> dict[str, Any]:
    return {"joint_attention_kwargs": {"ip_adapter_image_embeds": pictures}} if len(pictures) else {}


def _embedding(projection: torch.nn.Module) -> Embedding:
    kind = type(projection).__name__
    if kind not in _PROJECTIONS:
        raise LoadError(f"load: projections of IP-Adapters must be of {list(_PROJECTIONS)}, got {kind} ({BY_HAND})")
    width = next(part.in_features for part in projection.modules() if isinstance(part, torch.nn.Linear))
    return Embedding((1, 1, width), away="encoded") if _PROJECTIONS[kind] else Embedding((1, width))
