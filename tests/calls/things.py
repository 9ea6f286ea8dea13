"""What calls are made with, on networks so small that a call takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, UNet2DModel
from editing.known import Network, convolution, model_of
from geometry.subspaces import basis_of, orthonormal
from networks import build_scheduler, rand
from PIL import Image
from pipelines import SHALLOW, build_pixart, build_stable_diffusion
from solvers.matrices import MatrixOperator
from sound_pipelines import build_stable_audio
from video_pipelines import build_wan_autoencoder

import latentjac as lj
from latentjac import diffusion, editing, geometry, kernels, models, studies
from latentjac.papers import park2023

_UNET = {
    "sample_size": 8, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1,
    "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "attention_head_dim": 4,
}  # fmt: skip
RUNS = [0]  # of the network of `counted`
_FIRST_ORDER: dict[str, Any] = {"grid": diffusion.Own(), "solver": diffusion.DDIM()}


class Counted(Network):
    """Two convolutions that count how often they run."""

    def __init__(self) -> None:
        super().__init__(4, convolution(1), convolution(2))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, return_dict: bool = False) -> tuple:
        RUNS[0] += 1
        return super().forward(sample, timestep, return_dict)


def counted() -> lj.Model:
    return model_of(Counted())


@cache
def video_latents() -> models.VideoLatentCodec:
    return models.VideoLatentCodec(build_wan_autoencoder(), (2, 2, 2))


@cache
def sound_latents() -> models.SoundCodec:
    return models.SoundCodec(build_stable_audio().vae, 4)


@dataclass(eq=False)
class Things:
    """What calls are made with; made once."""

    folder: Path
    model: lj.Model = field(init=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of networks with random weights: the same whatever ran before
            self._make()

    def _make(self) -> None:
        self.model = counted()
        self.pipeline = self.folder / "pipeline"
        DDIMPipeline(unet=UNet2DModel(**_UNET), scheduler=build_scheduler()).save_pretrained(self.pipeline)
        self.text = lj.load(build_stable_diffusion(self.folder, **SHALLOW))
        # Tangent spaces of a linear network are all the same, which leaves a study nothing to rank.
        self.bent = model_of(Network(4, torch.nn.Sequential(convolution(1), torch.nn.SiLU()), convolution(2)))
        self.t5 = lj.load(build_pixart())
        self.classes = lj.load(UNet2DModel(**_UNET, num_class_embeds=4), build_scheduler())
        self.picture = Image.new("RGB", (4, 4), "orange")
        self.path = lj.invert(self.model, self.picture, 3, **_FIRST_ORDER)
        self.point = self.path.at(0.6)
        self.many = replace(self.point, sample=rand(2, 3, 4, 4))
        self.of_park2023 = park2023.invert(self.model, self.picture, 5).at(0.6)
        self.mask = torch.eye(4, dtype=torch.bool)
        self.basis = lj.local_basis(self.model, self.point, 2, tol=0.1)
        self.v, self.u = self.basis.v.clone(), self.basis.u.clone()
        self.edited = lj.edit(self.model, self.point, self.v, [-0.2, 0.1], method=editing.Guidance(num_steps=2))
        self.slider = lj.Slider.make(
            self.model, self.point, self.v[0], change=0.01, method=editing.Linear(num_steps=1), tolerance=0.4
        )
        self.saved_slider = self.slider.save(self.folder / "slider.safetensors")
        self.words = lj.noise_point(self.text, prompt="b", generator=seeded())
        self.jacobian = rand(5, 6)
        self.exact = basis_of(self.jacobian, k=2, x=(2, 3), y=(5,))
        self.three = basis_of(*(rand(5, 6, seed=i) for i in range(3)), k=2, x=(2, 3), y=(5,))
        self.rows = [orthonormal(2, 6, i) for i in range(3)]
        self.mean = geometry.frechet_mean(self.rows)
        self.features = lj.geometry.FeatureMap(lambda x: x + x**2, backend="autodiff")
        self.linearity = geometry.feature_linearity(self.features, rand(1, 6), rand(2, 6, seed=3), [0.1, 0.2])
        self.lin = lj.linearize(lambda x: x**2 + x, rand(1, 6))
        self.autodiff = lj.linearize(lambda x: x**2 + x, rand(1, 6), backend="autodiff")
        self.joint = lj.linearize(lambda a, b: (a * b, b.sin()), (rand(1, 6), rand(1, 1)))
        self.operator = MatrixOperator(rand(9, 8))
        self.of_operator = lj.svd(self.operator, 2)
        self.rank = lj.effective_rank(self.operator, 2, probes=3, steps=3)
        self.directions = geometry.global_directions(self.three)
        self.bases = lj.basis_path(self.model, self.path, [0.9, 0.5], 2, tol=0.1)
        self.saved = self.basis.save(self.folder / "basis.safetensors")
        self.photo = self.folder / "photo.png"
        self.picture.save(self.photo)
        self.finding = studies.Finding(
            "f", {"t": [1.0]}, (studies.Curve("c", studies.Axes("x", "y"), (0.0, 1.0), (0.0, 1.0)),), "s", 0.5,
            (0.0, 1.0), True,
        )  # fmt: skip
        q, t = rand(1, 2, 5, 4), rand(2, 1, 2, 5, 4)
        self.q, self.dq = q, t
        self.attention = kernels.attention_primal(q, q, q)
        self.x = rand(2, 3, 8)
        self.norm = kernels.norm_act_primal(self.x, groups=2)
        self.tangents = rand(2, 2, 3, 8)
        self.schedule = diffusion.Schedule.from_scheduler(self.model.scheduler, 3)
        self.conditioning = self.text.conditioning(["a", "b"], "c", 2.0)
        away = lj.Conditioning({"text": rand(1, 3)})
        self.by_image = models.ImageGuidance(away, away, 2.0, 1.5)
        self.rescaled = models.RescaledGuidance(away, 2.0, 0.5)
        self.saved_point = self.point.save(self.folder / "point.safetensors")
        self.saved_path = self.path.save(self.folder / "path.safetensors")
        self.f = lambda x, *more: x**2 + x


Arguments = dict[str, Any]
Baseline = Callable[[Things], tuple[Callable, Arguments]]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def call(function: Callable, **arguments: Any) -> tuple[Callable, Arguments]:
    return function, arguments
