"""Networks that are told a class: U-Nets and DiT, from every kind of source, and all that is done with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, DDPMPipeline, DiTPipeline
from networks import build_scheduler, build_tiny_unet, rand, randomize
from pipelines import build_dit, build_latent_diffusion
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method
from latentjac.models import Classes, ClassifierFree
from latentjac.studies import Settings
from latentjac.studies.points import followed_points

NULL = 1000  # of DiT
AWAY = {"unet": {"negative_class_label": 0}, "dit": {}}  # the U-Net has no null class


@pytest.fixture(scope="module")
def dit() -> DiTPipeline:
    pipeline = build_dit()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["unet", "dit"])
def case(request: pytest.FixtureRequest) -> tuple[latentjac.Model, dict[str, int]]:
    """A model in float64, and what guidance leads away from."""
    if request.param == "dit":
        return latentjac.load(build_dit(), dtype=torch.float64), AWAY["dit"]
    network = randomize(build_tiny_unet(size=8, num_class_embeds=4))
    return latentjac.load(network, build_scheduler()), AWAY["unet"]


def picture(model: latentjac.Model, seed: int = 0, count: int = 1) -> torch.Tensor:
    height, width = model.codec.size
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def by_hand(model: latentjac.Model, x: torch.Tensor, t: torch.Tensor, label: int) -> torch.Tensor:
    labels = torch.full((len(x),), label)
    return model.network(x, t.expand(len(x)), class_labels=labels).sample[:, : x.shape[1]]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_pictures_are_those_of_diffusers(dit, scale: float) -> None:
    options = {"num_inference_steps": 4, "guidance_scale": scale}
    generator = torch.Generator().manual_seed(2)
    theirs = dit([1, 3], generator=generator, output_type="np", **options).images
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(
        latentjac.load(dit), num_images=2, class_label=[1, 3], generator=generator, output_type="np", **options
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_guidance_leads_away_from_the_null_class_as_far_as_in_diffusers(dit) -> None:
    model = latentjac.load(dit)
    point = latentjac.noise_point(model, class_label=2)
    assert point.conditioning == model.conditioning(class_label=2, negative_class_label=NULL, guidance_scale=4.0)
    assert latentjac.noise_point(model).conditioning == model.conditioning(class_label=NULL)


@pytest.mark.parametrize("guided", [False, True])
def test_samples_are_those_of_the_scheduler_of_diffusers(case, guided: bool) -> None:
    model, away = case
    options = {"guidance_scale": 3.0, **away} if guided else {"guidance_scale": 1.0}
    point = latentjac.noise_point(model, 2, num_inference_steps=4, class_label=[1, 3], **options)
    scheduler, x = model.scheduler, point.sample
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        out = torch.cat([by_hand(model, x[i : i + 1], t, label) for i, label in enumerate((1, 3))])
        if guided:
            null = by_hand(model, x, t, away.get("negative_class_label", NULL))
            out = null + 3 * (out - null)
        x = scheduler.step(out, t, x).prev_sample
    # The schedule of diffusers is in float32.
    torch.testing.assert_close(latentjac.sample(model, point, output_type="latent"), x, rtol=1e-4, atol=1e-4)


def test_there_and_back_under_two_classes(case) -> None:
    model, _ = case
    path = latentjac.invert(model, picture(model, count=2), 6, class_label=[1, 3], grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40
    assert path.conditioning["class_label"].tolist() == [1, 3]
    other = path.at(0.6).with_prompt(model, class_label=2)
    assert other.conditioning == model.conditioning(class_label=2)
    x = path.at(0.6).sample
    for point, labels in ((path.at(0.6), (1, 3)), (other, (2, 2))):
        t = torch.tensor(point.timestep)
        expected = torch.cat([by_hand(model, x[i : i + 1], t, label) for i, label in enumerate(labels)])
        torch.testing.assert_close(model.denoiser(point.conditioning).eps(x, t), expected)


def middle_of(model: latentjac.Model) -> torch.nn.Module:
    """By hand: the middle block of a U-Net, the second of three blocks of a transformer."""
    network = model.network
    return network.mid_block if hasattr(network, "mid_block") else network.transformer_blocks[1]


def test_bases_are_those_of_dense_jacobians(case) -> None:
    model, away = case
    guided = {"guidance_scale": 3.0, **away}
    point = latentjac.noise_point(model, num_inference_steps=5, class_label=1, **guided)
    t = torch.tensor(point.timestep)

    def mid(x: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        handle = middle_of(model).register_forward_hook(lambda module, inputs, output: found.append(output))
        by_hand(model, x, t, 1)
        handle.remove()
        return found[0]

    def eps(x: torch.Tensor) -> torch.Tensor:
        null = by_hand(model, x, t, away.get("negative_class_label", NULL))
        return null + 3 * (by_hand(model, x, t, 1) - null)

    for layer, f in (("mid", mid), ("eps", eps)):
        _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
        basis = latentjac.local_basis(model, point, 3, layer, tol=1e-7)
        torch.testing.assert_close(basis.s, s[:3], rtol=1e-6, atol=0)
        assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-5
        assert basis.u.shape == (3, *f(point.sample).shape[1:])


@pytest.mark.parametrize("method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()])
def test_edits(case, method: Method) -> None:
    """Where nothing is moved the picture is that of the point, under class and guidance; elsewhere it is another."""
    model, away = case
    point = latentjac.noise_point(model, num_inference_steps=5, class_label=1, guidance_scale=2.0, **away)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3


def test_the_class_of_a_walk_is_that_of_the_walk_alone(case) -> None:
    model, _ = case
    point = latentjac.noise_point(model, num_inference_steps=5, class_label=1, guidance_scale=1.0)
    v = latentjac.local_basis(model, point, 1, tol=1e-3).v
    edit = latentjac.edit(model, point, v, 1.0, method=Guidance(num_steps=1, class_label=2))
    other = point.with_prompt(model, class_label=2)
    walked = latentjac.edit(model, other, v, 1.0, method=Guidance(num_steps=1))
    torch.testing.assert_close(edit.points, walked.points)
    there = replace(point, sample=edit.points[0])
    torch.testing.assert_close(edit.samples[0], latentjac.sample(model, there, output_type="latent"))
    with pytest.raises(ValueError, match=r"edit: class_label must be in \[0, "):
        latentjac.edit(model, point, v, 1.0, method=Guidance(num_steps=1, class_label=9999))


def test_consistency_models_go_to_the_clean_sample_in_one_step() -> None:
    unet = randomize(build_tiny_unet(num_class_embeds=4))
    pipeline = ConsistencyModelPipeline(unet.float(), CMStochasticIterativeScheduler(clip_denoised=False))
    model = latentjac.load(pipeline)
    point = latentjac.noise_point(model, 2, num_inference_steps=1, class_label=[1, 3], guidance_scale=1.0)
    assert 70 < point.sample.std() < 90  # noise of deviation sigma_max
    start = point.sample.float()
    theirs = pipeline(2, class_labels=torch.tensor([1, 3]), latents=start / 80, num_inference_steps=1, output_type="np")
    ours = latentjac.sample(model, point, output_type="np")
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs.images), rtol=0, atol=1e-4)


def test_consistency_models_keep_a_sample_of_the_smallest_noise() -> None:
    """The boundary condition of Song et al. 2023, and the level of noise where it holds."""
    pipeline = ConsistencyModelPipeline(
        randomize(build_tiny_unet(num_class_embeds=4)), CMStochasticIterativeScheduler(sigma_min=0.1)
    )
    model = latentjac.load(pipeline, dtype=torch.float64)
    x, t = torch.randn(1, *model.sample_shape, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(model.x0(x, t, model.conditioning(class_label=1)), x)
    with pytest.warns(UserWarning, match="leads to another picture"):  # a network that was not trained
        point = latentjac.invert(model, torch.rand(1, 3, *model.codec.size), 4, class_label=1).at(0.5)
    basis = latentjac.local_basis(model, point, 2, "x0", tol=1e-6)
    dense = dense_jacobian(lambda z: model.x0(z, torch.tensor(point.timestep), point.conditioning), point.sample)
    torch.testing.assert_close(basis.s.flatten(), torch.linalg.svdvals(dense)[:2], rtol=1e-3, atol=0)


def test_studies_are_of_samples_of_a_class(case) -> None:
    model, _ = case
    settings = Settings(samples=2, levels=(0.9, 0.5), k=2, steps=4, class_label=2)
    points = followed_points(model, settings)
    assert all(point.conditioning == model.conditioning(class_label=2) for point in points)


def test_a_folder_gives_what_the_object_gives(dit, tmp_path: Path) -> None:
    unet = DDPMPipeline(unet=build_tiny_unet(num_class_embeds=4), scheduler=build_scheduler())
    for name, pipeline in (("dit", dit), ("ddpm", unet), ("ldm", build_latent_diffusion(num_class_embeds=4))):
        pipeline.save_pretrained(tmp_path / name)
        held, read = latentjac.load(pipeline), latentjac.load(tmp_path / name)
        assert (read.sample_shape, read.classes, read.codec.size) == (held.sample_shape, held.classes, held.codec.size)
        assert read.identity() == held.identity()
        x, t = torch.ones(1, *read.sample_shape), torch.tensor(300)
        under = read.conditioning(class_label=2)
        torch.testing.assert_close(read.eps(x, t, under), held.eps(x, t, under))
        assert (read.eps(x, t, under) - read.eps(x, t, read.conditioning(class_label=3))).abs().max() > 1e-5


def test_a_folder_of_the_time_when_transformers_had_one_class(dit, tmp_path: Path) -> None:
    dit.save_pretrained(tmp_path)
    index, config = tmp_path / "model_index.json", tmp_path / "transformer" / "config.json"
    index.write_text(index.read_text().replace("DiTTransformer2DModel", "Transformer2DModel"))
    settings = json.loads(config.read_text()) | {"_class_name": "Transformer2DModel", "num_vector_embeds": None}
    config.write_text(json.dumps(settings))
    read, held = latentjac.load(tmp_path), latentjac.load(dit)
    x, t = torch.ones(1, *read.sample_shape), torch.tensor(300)
    under = read.conditioning(class_label=2)
    torch.testing.assert_close(read.eps(x, t, under), held.eps(x, t, under))
    config.write_text(json.dumps(settings | {"norm_type": "layer_norm"}))
    with pytest.raises(latentjac.LoadError, match=r"transformer: Transformer2DModel"):
        latentjac.load(tmp_path)


def test_classes_that_are_embedded_as_timesteps_are() -> None:
    model = latentjac.load(build_tiny_unet(class_embed_type="timestep"), build_scheduler())
    assert model.classes == Classes(count=None)
    x, t = rand(2, 3, 16, 16).float(), torch.tensor(300)
    expected = model.network(x, t, class_labels=torch.tensor([7, 2000])).sample
    torch.testing.assert_close(model.eps(x, t, model.conditioning(class_label=[7, 2000])), expected)


def test_a_network_of_your_own_says_which_classes_it_takes() -> None:
    network = build_tiny_unet(num_class_embeds=4)
    model = latentjac.Model(
        network,
        build_scheduler(),
        call=lambda net, x, t, c: net(x, t, c["class_label"], return_dict=False)[0],
        classes=Classes(4, null=0),
    )
    known = latentjac.load(network, build_scheduler())
    x, t = rand(1, 3, 16, 16).float(), torch.tensor(300)
    own = model.eps(x, t, model.conditioning(class_label=2, guidance_scale=2.0))
    expected = known.conditioning(class_label=2, negative_class_label=0, guidance_scale=2.0)
    torch.testing.assert_close(own, known.eps(x, t, expected))


def test_what_is_not_understood_is_named(case) -> None:
    model, _ = case
    last, count = (3, "4") if model.classes.null is None else (NULL, "1001")
    for label in (-1, last + 1, 10**30):
        with pytest.raises(ValueError, match=rf"conditioning: class_label must be in \[0, {last}\].* got {label}"):
            model.conditioning(class_label=label)
    assert str(model.classes.count) == count
    with pytest.raises(ValueError, match=r"conditioning: class_label\[1\] must be in .* got 9999"):
        model.conditioning(class_label=[0, 9999])
    with pytest.raises(ValueError, match=r"negative_class_label must be in .* got 9999"):
        model.conditioning(class_label=0, negative_class_label=9999)
    with pytest.raises(TypeError, match=r"class_label must be an int, a list of ints or None, got str"):
        model.conditioning(class_label="cat")
    with pytest.raises(TypeError, match=r"class_label\[0\] must be an int, got float"):
        model.conditioning(class_label=[1.0])
    with pytest.raises(ValueError, match=r"class_label must hold at least one label, got an empty list"):
        model.conditioning(class_label=[])
    with pytest.raises(ValueError, match=r"prompt must be left at None since .* is not conditioned on text, got 'a'"):
        model.conditioning("a", class_label=1)
    with pytest.raises(ValueError, match=r"guidance_scale must be a number in .*, got inf"):
        model.conditioning(class_label=1, guidance_scale=float("inf"))
    with pytest.raises(ValueError, match=r"sample: class_label must be one label or 3 \(num_images\), got 2"):
        latentjac.sample(model, num_images=3, class_label=[0, 1])
    with pytest.raises(ValueError, match=r"invert: class_label must be left at None with a conditioning, got 1"):
        latentjac.invert(model, picture(model), class_label=1, conditioning=model.conditioning(class_label=1))
    with pytest.raises(ValueError, match=r"sample: class_label must be left at None with a conditioning, got 1"):
        latentjac.sample(model, class_label=1, conditioning=model.conditioning(class_label=1))
    point = latentjac.noise_point(model, class_label=1)
    with pytest.raises(ValueError, match=r"sample: class_label must be left at None with a point, got 1"):
        latentjac.sample(model, point, class_label=1)
    with pytest.raises(ValueError, match=r"with_prompt: class_label must be in"):
        point.with_prompt(model, class_label=-1)


def test_a_class_that_is_missing_or_too_much_is_named(tiny_model) -> None:
    model = latentjac.load(build_tiny_unet(num_class_embeds=4), build_scheduler())
    for call in (lambda: model.conditioning(), lambda: latentjac.invert(model, picture(model), 4)):
        with pytest.raises(ValueError, match=r"class_label must be given since model .* no null class, got None"):
            call()
    with pytest.raises(ValueError, match=r"negative_class_label must be given with guidance_scale .*got None"):
        model.conditioning(class_label=1, guidance_scale=2.0)
    with pytest.raises(ValueError, match=r"class_label must be left at None since .* on classes, got 1"):
        tiny_model.conditioning(class_label=1)
    with pytest.raises(TypeError, match=r"Model: classes must be a latentjac.models.Classes or None, got int"):
        latentjac.Model(build_tiny_unet(), build_scheduler(), classes=4)
    with pytest.raises(ValueError, match=r"Classes: null must be at most 3, got 4"):
        Classes(4, null=4)


def test_labels_by_hand_that_there_are_not_are_named() -> None:
    model = latentjac.Model(build_tiny_unet(num_class_embeds=4), build_scheduler())
    x, t = torch.zeros(1, 3, 16, 16), torch.tensor(300)
    point = latentjac.noise_point(model, num_inference_steps=4, class_label=1)
    for label, message in (
        (torch.tensor([4]), r"conditioning\['class_label'\] must be in \[0, 3\], as the network has classes, got 4"),
        (torch.tensor([-1]), r"conditioning\['class_label'\] must be in \[0, 3\], as the network has classes, got -1"),
        (torch.tensor([1.0]), r"conditioning\['class_label'\] must be of whole numbers, got torch\.float32"),
    ):
        wrong = latentjac.Conditioning({"class_label": label})
        right = latentjac.Conditioning({"class_label": torch.tensor([1])})
        with pytest.raises(ValueError, match=f"eps: {message}"):
            model.eps(x, t, wrong)
        with pytest.raises(ValueError, match=r"conditioning\.guidance\.negative\['class_label'\] must be"):
            model.denoiser(latentjac.Conditioning(dict(right), ClassifierFree(wrong, 2.0)))
        for function in (latentjac.sample, latentjac.local_basis):
            with pytest.raises(ValueError, match=message):
                function(model, replace(point, conditioning=wrong))
