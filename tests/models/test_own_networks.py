"""A network of the user's own: what it is called with, its layers, its conditioning, and all that is done with it."""

from __future__ import annotations

import pytest
import torch
from networks import build_scheduler, build_tiny_unet, rand, randomize
from truth import dense_jacobian

import latentjac
from latentjac import Conditioning
from latentjac.diffusion import Implicit, Own
from latentjac.models import ClassifierFree, Guided, PixelCodec


class Classes(torch.nn.Module):
    """Blocks of convolutions that a class and a time shift; returns a tensor."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.classes = torch.nn.Embedding(4, channels)
        self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert len(label) == len(x)
        x = x + self.classes(label)[..., None, None] + (t / 1000).reshape(-1, 1, 1, 1)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, c: Conditioning) -> torch.Tensor:
    return network(x, t, c["label"])


@pytest.fixture
def model() -> latentjac.Model:
    network = randomize(Classes())
    return latentjac.Model(
        network, build_scheduler(), call=call, layers={"mid": network.blocks[1]}, sample_shape=(3, 6, 6)
    )


def label(number: int, away: int | None = None) -> Conditioning:
    own = {"label": torch.tensor([number])}
    return Conditioning(
        own, None if away is None else ClassifierFree(Conditioning({"label": torch.tensor([away])}), 2.5)
    )


def test_from_a_picture_to_an_edit(model) -> None:
    picture = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    path = latentjac.invert(model, picture, 6, conditioning=label(1), grid=Own(), solver=Implicit(3e-4))
    assert path.psnr[0] > 40
    assert path.conditioning == label(1)
    point = path.at(0.6)
    t, network = torch.tensor(point.timestep), model.network
    shift = network.classes(torch.tensor([1]))[..., None, None] + t / 1000

    def mid(x: torch.Tensor) -> torch.Tensor:
        shifted = x + shift
        return network.blocks[1](torch.tanh(network.blocks[0](shifted)))

    basis = latentjac.local_basis(model, point, 3, tol=1e-8)
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(dense_jacobian(mid, point.sample))[:3])
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 2.0])
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    injected = latentjac.edit(model, point, basis.u[0], [0.0, 2.0], method=latentjac.editing.HSpace())
    assert (injected.samples[0, 1] - injected.samples[0, 0]).norm() > 1e-3


def test_guidance_of_classes(model) -> None:
    x, t = rand(2, 3, 6, 6), torch.tensor(400)
    found = model.eps(x, t, label(1, away=3))
    one, three = (model.network(x, t, torch.tensor([n, n])) for n in (1, 3))
    torch.testing.assert_close(found, 2.5 * one - 1.5 * three)
    guided = Guided(model.denoiser(label(1)), label(3), 2.5)
    torch.testing.assert_close(guided.eps(x, t), found)
    power = model.scheduler.alphas_cumprod.double()[400]
    signal, noise = power.sqrt(), (1 - power).sqrt()
    torch.testing.assert_close(signal * guided.x0(x, t) + noise * found, x)
    point = latentjac.noise_point(model, 2, num_inference_steps=4, conditioning=label(1, away=3))
    assert point.conditioning == label(1, away=3)
    assert latentjac.sample(model, point, output_type="latent").shape == (2, 3, 6, 6)


def test_a_network_without_weights() -> None:
    """It computes on the CPU in float32, or where and in what it was moved to."""
    network = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Hardtanh(-0.5, 0.5))
    model = latentjac.Model(
        network, build_scheduler(), call=lambda net, x, t, c: net(x), layers={"mid": "0"}, sample_shape=(3, 4, 4)
    )
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    point = latentjac.noise_point(model, num_inference_steps=4)
    basis = latentjac.local_basis(model, point, 2, "mid", tol=1e-4)
    slopes = (1 - point.sample.double().tanh() ** 2).flatten().sort(descending=True).values
    torch.testing.assert_close(basis.s.flatten().double(), slopes[:2], rtol=1e-3, atol=0)
    assert model.identity() != latentjac.Model(network[:1], build_scheduler(), sample_shape=(3, 4, 4)).identity()
    model.to(dtype=torch.float64)
    assert latentjac.noise_point(model).sample.dtype == torch.float64


def test_layers_are_modules_or_their_names() -> None:
    network = Classes()
    for layer in (network.blocks[1], "blocks.1"):
        model = latentjac.Model(network, build_scheduler(), call=call, layers={"mid": layer}, sample_shape=(3, 6, 6))
        assert model.resolve_layer("mid") == "blocks.1"
    for layer in (torch.nn.Linear(1, 1), "blocks.7", 3, network):
        with pytest.raises(ValueError, match=r"Model: layers must give names .* to modules inside the network"):
            latentjac.Model(network, build_scheduler(), layers={"mid": layer}, sample_shape=(3, 6, 6))
    with pytest.raises(ValueError, match="Model: layers must give names other than"):
        latentjac.Model(network, build_scheduler(), layers={"eps": "blocks.1"}, sample_shape=(3, 6, 6))


def test_what_is_missing_is_named(model) -> None:
    with pytest.raises(ValueError, match="Model: sample_shape must be given for a network without configuration"):
        latentjac.Model(Classes(), build_scheduler())
    with pytest.raises(KeyError, match=r"conditioning must hold 'label', got \[\]"):
        latentjac.noise_point(model, num_inference_steps=2) and latentjac.sample(model, num_inference_steps=2)
    with pytest.raises(ValueError, match="prompt must be left at None with a conditioning, got 'a'"):
        latentjac.sample(model, prompt="a", conditioning=label(1))


def test_the_codec_is_that_of_pixels_or_none() -> None:
    def codec(*shape: int) -> object:
        return latentjac.Model(Classes(shape[0]), build_scheduler(), call=call, sample_shape=shape).codec

    assert isinstance(codec(3, 6, 6), PixelCodec)
    for shape in ((4, 6, 6), (2, 6, 8)):
        with pytest.raises(ValueError, match="encode: images must go to a model with a codec"):
            codec(*shape).encode(torch.zeros(1, *shape))


def test_no_signal_at_the_top_goes_with_v_prediction() -> None:
    """The noisiest level is pure noise: x0 comes from the prediction, not from a division by zero."""
    scheduler = build_scheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    network = randomize(Classes())
    model = latentjac.Model(network, scheduler, call=call, sample_shape=(3, 6, 6))
    point = latentjac.noise_point(model, num_inference_steps=5, conditioning=label(2))
    assert (point.signal, point.noise) == (0.0, 1.0)
    x, powers = point.sample, scheduler.alphas_cumprod.double()
    for level in range(5, 0, -1):
        t = point.schedule.timesteps[level]
        a, s = powers[t].sqrt(), (1 - powers[t]).sqrt()
        v = network(x, torch.tensor(t), label(2)["label"])
        b = powers[point.schedule.timesteps[level - 1]] if level > 1 else torch.tensor(1.0).double()
        x = b.sqrt() * (a * x - s * v) + (1 - b).sqrt() * (a * v + s * x)
    torch.testing.assert_close(latentjac.sample(model, point, output_type="latent"), x)
    path = latentjac.invert(model, torch.rand(1, 3, 6, 6), 10, conditioning=label(2))
    assert torch.isfinite(path.samples).all()
    basis = latentjac.local_basis(model, path.at(1.0), 2, "x0", tol=1e-6)
    assert basis.status is latentjac.Status.CONVERGED


def test_another_scheduler_brings_its_levels(model) -> None:
    x, t = rand(1, 3, 6, 6), torch.tensor(300)
    before = model.x0(x, t, label(1))
    model.scheduler = build_scheduler(beta_end=0.01)
    other = latentjac.Model(model.network, build_scheduler(beta_end=0.01), call=call, sample_shape=(3, 6, 6))
    torch.testing.assert_close(model.x0(x, t, label(1)), other.x0(x, t, label(1)), rtol=0, atol=0)
    assert (model.x0(x, t, label(1)) - before).abs().max() > 1e-3
    with pytest.raises(TypeError, match="scheduler must be"):
        model.scheduler = None


def test_networks_can_be_used_as_before_whatever_mode_they_were_made_in() -> None:
    """One of a service is often made in inference mode; another one is used inside of it."""
    with torch.inference_mode():
        made = build_tiny_unet()
    used = build_tiny_unet()
    with torch.inference_mode():
        inside = latentjac.Model(used, build_scheduler())
        inside.to("cpu", torch.float64)
    for model in (latentjac.load(made, build_scheduler(), dtype=torch.float64), inside):
        point = latentjac.noise_point(model, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        assert latentjac.local_basis(model, point, k=1, tol=0.5).v.shape == (1, 3, 16, 16)
        model.network(torch.zeros(1, 3, 16, 16, dtype=torch.float64), 5)
    network = inside.network.requires_grad_()
    network(torch.zeros(1, 3, 16, 16, dtype=torch.float64), 5).sample.sum().backward()
    assert made.conv_in.weight.is_inference()
    assert not used.conv_in.weight.is_inference()
