"""All pipelines of diffusers: each is of a family that feeds its network all that it gets, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from every_pipeline import NOT_PICTURES, image_pipelines, kinds, package_of, pipelines, published, refusal_of, share

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
    SanaPipeline SanaPAGPipeline SanaSprintPipeline SanaSprintImg2ImgPipeline AuraFlowPipeline Lumina2Pipeline
    CogView3PlusPipeline CogView4Pipeline
    QwenImagePipeline QwenImageImg2ImgPipeline QwenImageInpaintPipeline ZImagePipeline ZImageImg2ImgPipeline
    ZImageInpaintPipeline ChromaPipeline ChromaImg2ImgPipeline ChromaInpaintPipeline Flux2Pipeline Flux2KleinPipeline
    WanPipeline WanVideoToVideoPipeline LTXPipeline StableAudioPipeline
    CogVideoXPipeline CogVideoXVideoToVideoPipeline HunyuanVideoPipeline
    StableDiffusionAdapterPipeline StableDiffusionImageVariationPipeline StableDiffusionGLIGENPipeline
    FluxControlNetPipeline FluxControlNetImg2ImgPipeline FluxControlNetInpaintPipeline FluxKontextPipeline
    FluxKontextInpaintPipeline StableDiffusion3ControlNetPipeline StableDiffusion3ControlNetInpaintingPipeline
    QwenImageControlNetPipeline QwenImageControlNetInpaintPipeline ZImageControlNetPipeline
    ZImageControlNetInpaintPipeline SanaControlNetPipeline Flux2KleinInpaintPipeline Flux2KleinKVPipeline
    QwenImageEditPipeline QwenImageEditInpaintPipeline QwenImageEditPlusPipeline
    OvisImagePipeline LongCatImagePipeline BriaPipeline BriaFiboPipeline Krea2Pipeline ErnieImagePipeline PRXPipeline
    LuminaPipeline HunyuanImagePipeline Kandinsky3Pipeline Kandinsky3Img2ImgPipeline AltDiffusionPipeline
    AltDiffusionImg2ImgPipeline DreamLitePipeline DreamLiteMobilePipeline HiDreamImagePipeline
    NucleusMoEImagePipeline BriaFibo2Pipeline BriaFiboEditPipeline Kandinsky5T2IPipeline
""".split()
# The same of pipelines that are told apart by the configuration of their U-Nets, or that can do without parts that are
# needed: with the configurations and the encoders of texts that they were published with.
CONFIGURED = """
    IFPipeline IFImg2ImgPipeline IFInpaintingPipeline IFSuperResolutionPipeline IFImg2ImgSuperResolutionPipeline
    IFInpaintingSuperResolutionPipeline KandinskyV22Pipeline KandinskyV22Img2ImgPipeline KandinskyV22CombinedPipeline
    KandinskyV22Img2ImgCombinedPipeline KandinskyV22ControlnetPipeline KandinskyV22ControlnetImg2ImgPipeline
    KandinskyPipeline KandinskyImg2ImgPipeline KandinskyCombinedPipeline KandinskyImg2ImgCombinedPipeline
    StableDiffusionUpscalePipeline StableDiffusionDepth2ImgPipeline StableUnCLIPPipeline StableUnCLIPImg2ImgPipeline
    StableDiffusionXLPipeline StableDiffusionXLImg2ImgPipeline StableDiffusionXLInpaintPipeline
    StableDiffusionXLAdapterPipeline StableDiffusionXLControlNetPipeline StableDiffusionXLPAGPipeline
    StableDiffusionXLControlNetImg2ImgPipeline StableDiffusionXLControlNetInpaintPipeline
    StableDiffusionXLPAGImg2ImgPipeline StableDiffusionXLPAGInpaintPipeline StableDiffusionXLControlNetPAGPipeline
    StableDiffusionXLControlNetPAGImg2ImgPipeline LEditsPPPipelineStableDiffusionXL
    LDMTextToImagePipeline StableDiffusionControlNetXSPipeline StableDiffusionXLControlNetXSPipeline
    StableDiffusionXLControlNetUnionPipeline StableDiffusionXLControlNetUnionImg2ImgPipeline
    StableDiffusionXLControlNetUnionInpaintPipeline FluxControlPipeline FluxControlImg2ImgPipeline
    FluxControlInpaintPipeline FluxFillPipeline CogView4ControlPipeline KandinskyInpaintPipeline
    KandinskyInpaintCombinedPipeline KandinskyV22InpaintPipeline KandinskyV22InpaintCombinedPipeline
    MarigoldDepthPipeline MarigoldNormalsPipeline HunyuanDiTControlNetPipeline
    PaintByExamplePipeline Kandinsky5I2IPipeline
""".split()
# U-Nets of pictures that get what is not given to them.
REFUSED_UNETS = """
    StableDiffusionLatentUpscalePipeline MarigoldIntrinsicsPipeline BlipDiffusionPipeline
    StableDiffusionGLIGENTextImagePipeline
""".split()
NAMED = """
    FluxControlPipeline FluxFillPipeline VisualClozePipeline
    StableVideoDiffusionPipeline WanImageToVideoPipeline WanVACEPipeline LTXImageToVideoPipeline
    QwenImageLayeredPipeline ZImageOmniPipeline CogView4ControlPipeline OmniGenPipeline
    LongCatImageEditPipeline HunyuanImageRefinerPipeline PRXPixelPipeline
    Kandinsky5I2IPipeline Kandinsky5T2VPipeline
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


def each(names: list[str]) -> dict[str, str | None]:
    """Why each of these is refused as it was published, if it is."""
    known = image_pipelines()
    return {name: refusal_of(name, known[name], published(name, known[name])) for name in names}


def test_u_nets_that_are_told_apart_by_their_configuration() -> None:
    taken, refused = each(CONFIGURED), each(REFUSED_UNETS)
    assert {name: why for name, why in taken.items() if why is not None} == {}
    assert all(why is not None and "latentjac.Model(network, scheduler, call=" in why for why in refused.values())


@pytest.mark.parametrize(
    ("config", "key"),
    [({"in_channels": 8, "out_channels": 4}, "in_channels"), ({"class_embed_type": "projection"}, "class_embed_type"),
     ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid")],
)  # fmt: skip
def test_what_a_configuration_asks_for_is_given_or_named(config: dict[str, Any], key: str) -> None:
    classes = pipelines()["StableDiffusionPipeline"]
    with pytest.raises(latentjac.LoadError, match=key):
        family_of_parts("StableDiffusionPipeline", classes, {"unet": config})


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
    assert numbers["open"] >= 161
    assert {"MarigoldIntrinsics", "UnCLIP", "StableDiffusionLDM3D", "VisualCloze"} < names
    assert not {name.removesuffix("Pipeline") for name in CONFIGURED} & names
    assert not {"StableDiffusionXL", "PixArtSigma", "StableDiffusion3PAG", "Flux", "DiT"} & names
