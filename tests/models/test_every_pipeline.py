"""All pipelines of diffusers: each is of a family that feeds its network all that it gets, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from every_pipeline import NOT_PICTURES, image_pipelines, kinds, package_of, pipelines, refusal_of, share

import latentjac
from latentjac.models.pipeline import _family

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
        _family("StableDiffusionPipeline", classes, {"unet": config})


def test_pipelines_that_make_pictures_are_counted_each_once() -> None:
    """As published: Stable Diffusion XL with its encoders, networks that get a picture beside the sample with it."""
    found = image_pipelines()
    assert NOT_PICTURES < {package_of(kind) for kind in kinds().values()}
    assert {"StableDiffusionXLPipeline", "PixArtAlphaPipeline", "Kandinsky5T2IPipeline", "SanaPipeline"} < set(found)
    others = (
        "Wan",
        "AudioLDM2",
        "ShapE",
        "AnimateDiffPAG",
        "KandinskyPrior",
        "Kandinsky5T2V",
        "TextToVideoSD",
        "LLaDA2",
    )
    assert not {f"{name}Pipeline" for name in others} & set(found)
    (numbers, refused) = share()
    names = {name for row in refused for name in row["pipelines"].split(", ")}
    assert numbers["open"] + len(names) == numbers["image pipelines"] == len(found)
    assert numbers["open"] >= 55
    assert {"MarigoldDepth", "LDMSuperResolution", "StableDiffusionLDM3D", "StableUnCLIPImg2Img"} < names
    assert not {"StableDiffusionXL", "PixArtSigma", "StableDiffusion3PAG", "Flux", "DiT"} & names
