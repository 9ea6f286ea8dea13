"""All pipelines of diffusers: each is of a family that feeds its network all that it gets, or is refused by name."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pytest
from diffusers import DiffusionPipeline

import latentjac
from latentjac.models.pipeline import family_of_parts

# Pipelines whose networks get, at settings of their classes, what a family gives them. What their guidance or their
# samplers do beside the network is theirs.
TAKEN = """
    ConsistencyModelPipeline DDIMPipeline DDPMPipeline DiTPipeline KarrasVePipeline LDMPipeline
    LDMSuperResolutionPipeline PNDMPipeline RePaintPipeline ScoreSdeVePipeline FluxPipeline
    FluxImg2ImgPipeline FluxInpaintPipeline StableDiffusion3Pipeline
    StableDiffusion3Img2ImgPipeline StableDiffusion3InpaintPipeline
    StableDiffusion3PAGPipeline StableDiffusion3PAGImg2ImgPipeline StableDiffusionPipeline StableDiffusionPipelineSafe
    StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline StableDiffusionInpaintPipelineLegacy
    StableDiffusionInstructPix2PixPipeline StableDiffusionControlNetPipeline StableDiffusionControlNetImg2ImgPipeline
    LatentConsistencyModelPipeline LatentConsistencyModelImg2ImgPipeline
""".split()
NAMED = """
    FluxKontextPipeline FluxKontextInpaintPipeline FluxControlPipeline FluxFillPipeline VisualClozePipeline
    StableVideoDiffusionPipeline WanPipeline LTXPipeline SanaPipeline QwenImagePipeline AuraFlowPipeline IFPipeline
    KandinskyV22Pipeline HunyuanDiTPipeline Lumina2Pipeline CogView4Pipeline ZImagePipeline StableAudioPipeline
    StableDiffusionXLAdapterPipeline StableDiffusionUpscalePipeline StableUnCLIPPipeline
""".split()


def pipelines() -> dict[str, dict[str, str]]:
    """Classes of the parts that each pipeline cannot do without, by name."""
    found = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if "Pipeline" in name else None
        if not inspect.isclass(kind) or not issubclass(kind, DiffusionPipeline) or kind is DiffusionPipeline:
            continue
        types: dict[str, Any] = kind._get_signature_types()
        parts = {part: first_class(of) for part, of in types.items() if part not in kind._optional_components}
        found[name] = {part: of for part, of in parts.items() if of is not None}
    return found


def first_class(of: Any) -> str | None:
    known = [kind for kind in of if getattr(kind, "__module__", "").partition(".")[0] in ("diffusers", "transformers")]
    return getattr(known[0], "__name__", str(known[0])) if known else None


def refusal_of(name: str, classes: dict[str, str]) -> str | None:
    try:
        family_of_parts(name, classes, {part: {} for part in classes})
    except latentjac.LoadError as error:
        return str(error)
    return None


def test_every_pipeline_is_of_a_family_or_refused_with_a_way_out() -> None:
    refusals = {name: refusal_of(name, classes) for name, classes in pipelines().items()}
    refused = {name: why for name, why in refusals.items() if why is not None}
    assert len(refusals) > 250
    assert [
        n for n, why in refused.items() if n not in why or "latentjac.Model(network, scheduler, call=" not in why
    ] == []
    assert set(TAKEN) & set(refused) == set()
    assert set(NAMED) <= set(refused)


@pytest.mark.parametrize(
    ("config", "key"),
    [({"in_channels": 8, "out_channels": 4}, "in_channels"), ({"attention_type": "gated"}, "attention_type"),
     ({"class_embed_type": "projection"}, "class_embed_type"),
     ({"encoder_hid_dim_type": "ip_image_proj"}, "encoder_hid")],
)  # fmt: skip
def test_what_a_configuration_asks_for_is_given_or_named(config: dict[str, Any], key: str) -> None:
    classes = pipelines()["StableDiffusionPipeline"]
    with pytest.raises(latentjac.LoadError, match=key):
        family_of_parts("StableDiffusionPipeline", classes, {"unet": config})
