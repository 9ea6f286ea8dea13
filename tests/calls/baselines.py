"""Valid arguments of every public function, on networks so small that a call takes milliseconds."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Iterator
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
from pipelines import build_pixart, build_stable_diffusion
from solvers.matrices import MatrixOperator
from sound_pipelines import build_stable_audio
from video_pipelines import build_wan_autoencoder

import latentjac as lj
from latentjac import diffusion, editing, geometry, kernels, models, papers, report, studies
from latentjac.diffusion.grids import GRIDS
from latentjac.diffusion.ode_solvers import SOLVERS
from latentjac.papers import park2023
from latentjac.solvers import Krylov, Randomized, Subspace

_UNET = {
    "sample_size": 8, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1,
    "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "attention_head_dim": 4,
}  # fmt: skip
RUNS = [0]  # of the network of `counted`
PACKAGES = ("diffusion", "editing", "geometry", "kernels", "linearization", "models", "report", "solvers", "studies")
PAPERS = tuple(papers.__all__)  # whose functions are called by the name of the paper and their own
# What the library makes and hands out: nobody calls these by hand.
MADE = {
    "Along", "ArrayBasis", "ArrayOperator", "AttentionPrimal", "AutodiffLinearization", "Axes", "BasisPath",
    "BuildInfo", "Certificate",
    "Certificate.of", "Conditioning.__getitem__", "Curvature", "Curve", "Denoiser", "Edit", "EffectiveRank",
    "Estimate", "FeatureLinearity", "Finding", "Frames", "FrechetMean", "GlobalDirections", "Guided", "GuidedByImage",
    "Heat", "ImageEncoder", "ImageEncoder.encode", "ImageEncoder.without_picture", "Model.picture_in", "Way.read",
    "JacobiEigh", "JacobiSvd", "JointLinearization", "LatentCodec", "LinearOperator", "Linearity", "Linearization",
    "Linearization.rebase", "LocalBasis", "MatchedMean", "Method", "NormActPrimal", "PathMeasure", "PixelCodec",
    "PowerSpectrum", "Prediction", "PreparedImage", "PrincipalComponents", "ProgramLinearization", "Restrictable",
    "Row", "SampleMean", "Schedule.nearest", "SelfTest", "SolverState", "SoundCodec", "SparseDirections", "Study",
    "SubspaceDistance", "T5TextEncoder", "TextEncoder", "Trajectory", "Transport", "VideoCodec", "VideoLatentCodec",
    "Way", "XSpaceMethod",
}  # fmt: skip
# Of methods of edits, whom `edit` calls, and of grids and solvers, whom a schedule and its loops call.
CALLED_BY_EDIT = {"check_size", "enough_steps", "layer_in", "longest_step", "samples_between", "steps", "walk"}
CALLED_BY_SCHEDULE = {"down", "place", "up"}
_FIRST_ORDER: dict[str, Any] = {"grid": diffusion.Own(), "solver": diffusion.DDIM()}


def targets() -> Iterator[tuple[str, Callable]]:
    """Every public function, constructor and method: name and itself."""
    seen = set()
    homes = ("latentjac", *(f"latentjac.{name}" for name in PACKAGES), *(f"latentjac.papers.{name}" for name in PAPERS))
    for home in homes:
        module = importlib.import_module(home)
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in seen or not callable(thing) or (inspect.isclass(thing) and _not_called(thing)):
                continue
            seen.add(id(thing))
            if not inspect.isclass(thing):
                yield (f"{home.split('.')[-1]}.{name}" if home.startswith("latentjac.papers") else name), thing
                continue
            if name not in MADE:
                yield name, thing
            if not getattr(thing, "_is_protocol", False):
                yield from _methods(name, thing)


def _not_called(thing: type) -> bool:
    return issubclass(thing, (BaseException, enum.Enum))


def _methods(owner: str, kind: type) -> Iterator[tuple[str, Callable]]:
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        own = not name.startswith("_") or name in ("__getitem__", "__call__")
        if own and (inspect.isfunction(method) or isinstance(method, (classmethod, staticmethod))):
            called_by_edit = name in CALLED_BY_EDIT and hasattr(kind, "samples_between")
            called_by_schedule = name in CALLED_BY_SCHEDULE and kind in (*SOLVERS, *GRIDS)
            called = called_by_edit or called_by_schedule
            if name in vars(kind) and f"{owner}.{name}" not in MADE and not called:
                yield f"{owner}.{name}", getattr(kind, name)


def entry_points() -> Iterator[tuple[str, Callable]]:
    """All targets, and the studies, which a table names."""
    yield from targets()
    for name, each in studies.STUDIES.items():
        yield f"{name}.run", each.run


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
        self.text = lj.load(build_stable_diffusion(self.folder))
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
        self.saved_point = self.point.save(self.folder / "point.safetensors")
        self.saved_path = self.path.save(self.folder / "path.safetensors")
        self.f = lambda x, *more: x**2 + x


Arguments = dict[str, Any]
Baseline = Callable[[Things], tuple[Callable, Arguments]]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def call(function: Callable, **arguments: Any) -> tuple[Callable, Arguments]:
    return function, arguments


TINY = studies.Settings(samples=3, levels=(0.9, 0.5, 0.2), k=2, tol=0.5, steps=4, prompts=("a", "b", "c"))
_SOLVER: Arguments = {"k": 2, "tol": 0.1, "max_passes": 100}

BASELINES: dict[str, Baseline] = {
    # the way from a picture to an edit
    "load": lambda c: call(lj.load, source=str(c.pipeline)),
    "load/network": lambda c: call(
        lj.load, source=counted().network, scheduler=c.model.scheduler, device="cpu", dtype=torch.float64
    ),
    "limits": lambda c: call(lj.limits, max_seconds=9.0, max_memory=10**9, stop=bool, progress=print),
    "builtin_models": lambda c: call(lj.builtin_models),
    "prepare_image": lambda c: call(lj.prepare_image, image=c.picture, size=4, crop=(0, 0, 2, 2)),
    "open_image": lambda c: call(models.open_image, path=c.photo),
    "to_frames": lambda c: call(models.to_frames, videos=rand(1, 3, 2, 4, 4).sigmoid()),
    "to_pil": lambda c: call(models.to_pil, pictures=rand(1, 3, 4, 4).sigmoid()),
    "resolve_layer": lambda c: call(models.resolve_layer, network=c.model.network, layer="mid", aliases={"h": "mid"}),
    "invert": lambda c: call(lj.invert, model=c.model, image=c.picture, num_inference_steps=3),
    "invert/text": lambda c: call(
        lj.invert,
        model=c.text,
        image=Image.new("RGB", (16, 16)),
        num_inference_steps=1,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
        t=0.7,
        grid=diffusion.Uniform(),
        solver=diffusion.Implicit(0.5),
        estimate_error=True,
    ),
    "noise_point": lambda c: call(
        lj.noise_point, model=c.model, num_images=2, num_inference_steps=3, generator=seeded()
    ),
    "noise_point/text": lambda c: call(
        lj.noise_point, model=c.text, prompt=["a"], guidance_scale=2.0, generator=seeded()
    ),
    "noise_point/class": lambda c: call(
        lj.noise_point,
        model=c.classes,
        class_label=[1],
        negative_class_label=0,
        guidance_scale=2.0,
        generator=seeded(),
    ),
    "Classes": lambda c: call(models.Classes, count=3, null=0),
    "sample": lambda c: call(lj.sample, model=c.model, num_inference_steps=3, generator=seeded()),
    "sample/point": lambda c: call(lj.sample, model=c.model, point=c.point, output_type="pt"),
    "sample/text": lambda c: call(
        lj.sample,
        model=c.text,
        num_inference_steps=1,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
        generator=seeded(),
        output_type="latent",
    ),
    "Point": lambda c: call(
        lj.Point,
        sample=c.point.sample,
        level=2,
        schedule=c.schedule,
        conditioning=lj.Conditioning(),
    ),
    "Point.split": lambda c: call(c.many.split),
    "Point.rows": lambda c: call(c.many.rows, index=slice(1)),
    "Point.to": lambda c: call(c.point.to, device="cpu", dtype=torch.float32),
    "Point.save": lambda c: call(c.point.save, path=c.folder / "p.safetensors"),
    "Point.load": lambda c: call(lj.Point.load, path=c.saved_point),
    "Trajectory.save": lambda c: call(c.path.save, path=c.folder / "t.safetensors"),
    "Trajectory.load": lambda c: call(lj.Trajectory.load, path=c.saved_path),
    "Point.with_prompt": lambda c: call(
        replace(c.point, sample=rand(1, 4, 8, 8).float()).with_prompt,
        model=c.text,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
    ),
    "Trajectory.at": lambda c: call(c.path.at, t=0.5),
    "Trajectory.at/timestep": lambda c: call(c.path.at, timestep=500),
    "edit": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v,
        distance=0.2,
        method=editing.Guidance(num_steps=2, linearity_tolerance=0.5),
    ),
    "edit/mask": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=[0.2],
        method=editing.Guidance(num_steps=2),
        mask=editing.Mask(c.mask, null_rank=1, tol=0.5),
    ),
    "edit/array": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=(0.2,),
        method=editing.Linear(num_steps=1),
        mask=c.mask.numpy(),
    ),
    "edit/geodesic": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=0.1,
        method=editing.Geodesic(num_steps=1, k=2, tol=0.5),
    ),
    "edit/h-space": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.u[:1],
        distance=0.2,
        method=editing.HSpace(inject="point", asymmetric=True),
    ),
    "edit/compose": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v,
        distance=[0.2, 0.1],
        method=editing.Guidance(num_steps=2),
        compose=True,
    ),
    "edit/park2023": lambda c: call(
        lj.edit, model=c.model, point=c.of_park2023, directions=c.v[0], method=park2023.Walk(num_steps=3, gain=0.1)
    ),
    "Guidance": lambda c: call(
        editing.Guidance, num_steps=2, prompt="a", layer="mid", linearity_tolerance=0.5, reestimate=2
    ),
    "Reestimation": lambda c: call(editing.Reestimation, every=2, k=2, tol=0.5),
    "Linear": lambda c: call(editing.Linear, num_steps=2, prompt="a", layer="mid", linearity_tolerance=0.5),
    "Geodesic": lambda c: call(
        editing.Geodesic,
        num_steps=2,
        prompt="a",
        layer="mid",
        linearity_tolerance=0.5,
        transport="pseudoinverse",
        k=2,
        tol=0.5,
    ),
    "HSpace": lambda c: call(editing.HSpace, layer="mid", inject="point", asymmetric=True, linearity_tolerance=0.5),
    "Mask": lambda c: call(editing.Mask, inside=c.mask, null_rank=1, tol=0.5),
    "Mask/energy": lambda c: call(editing.Mask, inside=c.mask.numpy(), null_energy=0.5),
    "walk_frames": lambda c: call(
        lj.editing.walk_frames, model=c.model, point=c.point, edit=c.edited, direction=1, count=3
    ),
    "Edit.image": lambda c: call(c.edited.image, direction=0, distance=1),
    "Way.at": lambda c: call(c.edited.way.at, fraction=0.5),
    "measure_linearity": lambda c: call(
        geometry.measure_linearity, model=c.model, point=c.point, directions=c.v, sigma=0.5, tolerance=0.1
    ),
    "masked_basis": lambda c: call(
        lj.editing.masked_basis, model=c.model, point=c.point, mask=c.mask, k=2, layer="x0", tol=0.5
    ),
    "null_space": lambda c: call(lj.editing.null_space, model=c.model, point=c.point, mask=c.mask, rank=2, tol=0.5),
    "null_space/energy": lambda c: call(
        lj.editing.null_space, model=c.model, point=c.point, mask=c.mask, energy=0.1, tol=0.5
    ),
    "project_out": lambda c: call(lj.editing.project_out, v=c.v[:1] + c.v[1:], directions=c.v[1:]),
    # diffusion
    "DDIM": lambda c: call(diffusion.DDIM, refinement=2),
    "Implicit": lambda c: call(diffusion.Implicit, tol=0.1, most=3),
    "Multistep": lambda c: call(diffusion.Multistep),
    "Own": lambda c: call(diffusion.Own),
    "Uniform": lambda c: call(diffusion.Uniform),
    "Rho": lambda c: call(diffusion.Rho, rho=5.0),
    "Schedule": lambda c: call(
        diffusion.Schedule,
        signals=(1.0, 0.8),
        noises=(0.0, 0.6),
        timesteps=(0, 500),
        num_train_timesteps=1000,
        num_inference_steps=1,
    ),
    "Schedule.from_scheduler": lambda c: call(
        diffusion.Schedule.from_scheduler,
        scheduler=c.model.scheduler,
        num_inference_steps=3,
        grid=diffusion.Rho(),
        solver=diffusion.Multistep(),
        t=0.5,
    ),
    "Schedule.same": lambda c: call(c.schedule.same, level=1, other=2),
    "Schedule.to_dict": lambda c: call(c.schedule.to_dict),
    "Schedule.from_dict": lambda c: call(diffusion.Schedule.from_dict, values=c.schedule.to_dict()),
    "Schedule.level": lambda c: call(c.schedule.level, t=0.5),
    "Schedule.level/timestep": lambda c: call(c.schedule.level, timestep=500),
    "Schedule.step": lambda c: call(
        c.schedule.step, x=rand(1, 3, 4, 4), eps=rand(1, 3, 4, 4), source=2, target=1, noise=rand(1, 3, 4, 4)
    ),
    "Schedule.step/x0": lambda c: call(
        c.schedule.step, x=rand(1, 3, 4, 4), eps=rand(1, 3, 4, 4), source=2, target=1, x0=rand(1, 3, 4, 4)
    ),
    "predict": lambda c: call(
        diffusion.predict, model=c.model, x=c.point.sample, timestep=500, conditioning=lj.Conditioning()
    ),
    "predict_noise": lambda c: call(
        diffusion.predict_noise, model=c.model, x=c.point.sample, timestep=500, conditioning=lj.Conditioning()
    ),
    "descend": lambda c: call(
        diffusion.descend, model=c.model, x=c.point.sample, schedule=c.schedule, level=2, end=0, noisy_below=0
    ),
    "denoise": lambda c: call(
        diffusion.denoise,
        model=c.model,
        x=c.point.sample,
        schedule=c.schedule,
        level=2,
        noisy_below=1,
        generator=seeded(),
    ),
    "linearization_at": lambda c: call(diffusion.linearization_at, model=c.model, point=c.point, layer="mid"),
    "place": lambda c: call(diffusion.place, name="place", model=c.model, point=c.point),
    "render": lambda c: call(diffusion.render, model=c.model, samples=c.point.sample, output_type="pil"),
    # bases
    "local_basis": lambda c: call(lj.local_basis, model=c.model, point=c.point, layer="mid", **_SOLVER),
    "local_basis/warm": lambda c: call(
        lj.local_basis,
        model=c.model,
        point=c.point,
        warm_start=c.basis,
        solver=Krylov(block_size=2, confirm=0),
        **_SOLVER,
    ),
    "basis_path": lambda c: call(
        lj.basis_path,
        model=c.model,
        trajectory=c.path,
        timesteps=[0.9],
        k=2,
        tol=0.5,
        layer="mid",
        solver=Krylov(block_size=2, confirm=0),
    ),
    "BasisPath.__getitem__": lambda c: call(c.bases.__getitem__, index=0),
    "LocalBasis.load": lambda c: call(lj.LocalBasis.load, path=c.saved, model=None),
    "LocalBasis.save": lambda c: call(c.basis.save, path=c.folder / "again.safetensors"),
    "LocalBasis.point": lambda c: call(c.three.point, index=1),
    "LocalBasis.to": lambda c: call(c.basis.to, device="cpu", dtype=torch.float32),
    "svd": lambda c: call(lj.svd, operator=c.operator, k=2, tol=0.1, max_passes=50, solver=Krylov(block_size=2)),
    "svd/warm": lambda c: call(
        lj.svd,
        operator=c.operator,
        k=2,
        tol=0.1,
        warm_start=rand(2, 8),
        refine_with=c.operator,
        max_seconds=9.0,
    ),
    "svd/subspace": lambda c: call(
        lj.svd, operator=c.operator, k=2, tol=0.5, solver=Subspace(stop="park2023", vectors="park2023")
    ),
    "svd/randomized": lambda c: call(
        lj.svd,
        operator=c.operator,
        k=2,
        tol=0.5,
        solver=Randomized(oversampling=2, power_steps=1),
        generator=seeded(),
    ),
    "Krylov": lambda c: call(lj.solvers.Krylov, block_size=2, confirm=0),
    "Krylov/measured": lambda c: call(lj.solvers.Krylov, block_size="measured"),
    "Subspace": lambda c: call(lj.solvers.Subspace, stop="park2023", vectors="ritz"),
    "Randomized": lambda c: call(lj.solvers.Randomized, oversampling=2, power_steps=1),
    "effective_rank": lambda c: call(
        lj.effective_rank, operator=c.operator, k=2, probes=3, steps=2, threshold=0.1, confidence=0.9
    ),
    "effective_rank/basis": lambda c: call(
        lj.effective_rank,
        operator=c.operator,
        k=2,
        probes=3,
        steps=2,
        basis=c.of_operator,
        generator=seeded(),
    ),
    "EffectiveRank.count_above": lambda c: call(c.rank.count_above, s=0.5),
    "EffectiveRank.count_holding": lambda c: call(c.rank.count_holding, part=0.5),
    "Certificate.names": lambda c: call(lj.solvers.Certificate.names),
    "linearize": lambda c: call(lj.linearize, f=c.f, x=rand(1, 6), backend="auto", chunk_size=2, cuda_graphs="auto"),
    "linearize/autodiff": lambda c: call(
        lj.linearize, f=c.f, x=rand(1, 6).float(), backend="autodiff", chunk_size=2, cuda_graphs=False, precision="fp32"
    ),
    # geometry
    "FeatureMap": lambda c: call(lj.geometry.FeatureMap, f=c.f, backend="auto", points_at_once=2),
    "FeatureMap.at": lambda c: call(
        lj.geometry.FeatureMap.at, model=c.model, point=c.point, layer="mid", backend="auto", points_at_once=2
    ),
    "FeatureMap.values": lambda c: call(c.features.values, x=rand(2, 6)),
    "FeatureMap.tangents": lambda c: call(c.features.tangents, x=rand(2, 6), v=rand(2, 3, 6)),
    "FeatureMap.cotangents": lambda c: call(c.features.cotangents, x=rand(2, 6), u=rand(2, 3, 6)),
    "direction_curvature": lambda c: call(
        lj.geometry.direction_curvature, features=c.features, x=rand(1, 6), directions=rand(2, 6, seed=3), step=0.01
    ),
    "feature_linearity": lambda c: call(
        lj.geometry.feature_linearity,
        features=c.features,
        x=rand(1, 6),
        directions=rand(2, 6, seed=3),
        lengths=[0.1, 0.2],
    ),
    "FeatureLinearity.radius": lambda c: call(c.linearity.radius, tolerance=0.1),
    "measure_path": lambda c: call(lj.geometry.measure_path, features=c.features, samples=rand(3, 6), batched=False),
    "measure_path/batched": lambda c: call(
        lj.geometry.measure_path, features=c.features, samples=rand(2, 3, 6), batched=True
    ),
    "ascent_directions": lambda c: call(geometry.ascent_directions, features=c.features, x=rand(1, 6), u=rand(2, 6)),
    "sparse_directions": lambda c: call(lj.geometry.sparse_directions, basis=c.basis, channels=0),
    "principal_components": lambda c: call(lj.geometry.principal_components, data=rand(5, 6), k=2),
    "power_spectrum": lambda c: call(lj.geometry.power_spectrum, directions=rand(2, 3, 4, 4), cutoff=0.2),
    "principal_angles": lambda c: call(lj.geometry.principal_angles, a=c.rows[0], b=c.rows[1], space="x"),
    "principal_angles/bases": lambda c: call(lj.geometry.principal_angles, a=c.exact, b=c.three, space="h"),
    "subspace_distance": lambda c: call(lj.geometry.subspace_distance, a=c.rows[0], b=c.rows[1], space="x"),
    "pairwise_distances": lambda c: call(geometry.pairwise_distances, bases=c.rows, space="x"),
    "pairwise_distances/bases": lambda c: call(geometry.pairwise_distances, bases=[c.exact, c.three], space="h"),
    "frechet_mean": lambda c: call(lj.geometry.frechet_mean, bases=c.rows, space="h", tol=1e-6, max_iterations=50),
    "FrechetMean.spread": lambda c: call(c.mean.spread, confidence=0.9),
    "global_directions": lambda c: call(lj.geometry.global_directions, bases=c.three, method="frechet", confidence=0.9),
    "global_directions/matched": lambda c: call(
        lj.geometry.global_directions, bases=[c.exact, c.three], method="matched"
    ),
    "GlobalDirections.at": lambda c: call(c.directions.at, basis=c.exact, method="pseudoinverse", regularization=0.1),
    "matched_mean": lambda c: call(geometry.matched_mean, bases=c.rows, space="h"),
    "assign": lambda c: call(geometry.assign, cost=rand(4, 4)),
    "grassmann_log": lambda c: call(geometry.grassmann_log, p=c.rows[0], q=c.rows[1]),
    "grassmann_exp": lambda c: call(
        geometry.grassmann_exp, p=c.rows[0], tangent=geometry.grassmann_log(c.rows[0], c.rows[1])
    ),
    "parallel_transport": lambda c: call(
        lj.geometry.parallel_transport,
        direction=c.exact.v,
        source=c.exact,
        target=c.three,
        method="pseudoinverse",
        regularization=0.1,
    ),
    "pull_back": lambda c: call(lj.geometry.pull_back, u=c.exact.u, target=c.three, method="park2023"),
    "pullback_inner": lambda c: call(lj.geometry.pullback_inner, source=c.lin, a=rand(2, 6), b=rand(2, 6, seed=2)),
    "pullback_norm": lambda c: call(lj.geometry.pullback_norm, source=c.exact, v=rand(2, 2, 3)),
    "sample_mean": lambda c: call(geometry.sample_mean, values=rand(5, 2), method="student", confidence=0.9),
    "SampleMean.map": lambda c: call(geometry.sample_mean(rand(5, 2)).map, f=torch.exp),
    "sample_mean/bootstrap": lambda c: call(
        geometry.sample_mean,
        values=rand(5),
        method="bootstrap",
        confidence=0.9,
        resamples=50,
        generator=seeded(),
    ),
    "jackknife": lambda c: call(
        geometry.jackknife, statistic=lambda kept: kept.double().mean(), samples=5, confidence=0.9
    ),
    "pair_mean": lambda c: call(geometry.pair_mean, table=rand(4, 4), confidence=0.9),
    "pairs_of": lambda c: call(geometry.pairs_of, table=rand(4, 4), kept=torch.arange(3)),
    "rank_correlation": lambda c: call(geometry.rank_correlation, a=rand(5), b=rand(5, seed=2)),
    # kernels
    "attention_primal": lambda c: call(
        kernels.attention_primal,
        q=c.q,
        k=c.q,
        v=c.q,
        scale=0.5,
        bias=rand(5, 5).double(),
        causal=False,
        allow_tf32=False,
    ),
    "attention_tangent": lambda c: call(
        kernels.attention_tangent, primal=c.attention, dq=c.dq, dk=c.dq, dv=c.dq, out=None, accumulate=False
    ),
    "attention_cotangent": lambda c: call(
        kernels.attention_cotangent, primal=c.attention, u=c.dq, wanted=(True, False, True), out=(None, None, None)
    ),
    "rowwise_product": lambda c: call(kernels.rowwise_product, matrices=rand(1, 5, 2, 4, 3), t=c.dq, out=None),
    "gated_tangent": lambda c: call(
        kernels.gated_tangent, value=rand(2, 3, 4), gate=rand(2, 3, 4), a=rand(3, 4), b=rand(3, 4), out=None
    ),
    "gated_cotangent": lambda c: call(kernels.gated_cotangent, u=rand(2, 3, 4), a=rand(3, 4), b=rand(3, 4), out=None),
    "norm_act_primal": lambda c: call(
        kernels.norm_act_primal,
        x=c.x,
        gamma=rand(8),
        beta=rand(2, 8),
        groups=2,
        eps=1e-5,
        activation="silu",
        rms=False,
        want_output=True,
    ),
    "norm_act_tangent": lambda c: call(
        kernels.norm_act_tangent, t=c.tangents, a=c.norm.a, xhat=c.norm.xhat, groups=2, rms=False, accumulate=False
    ),
    "norm_act_cotangent": lambda c: call(
        kernels.norm_act_cotangent, u=c.tangents, a=c.norm.a, xhat=c.norm.xhat, groups=2, rms=False
    ),
    "gram": lambda c: call(kernels.gram, a=rand(1, 2, 5), b=rand(1, 3, 5)),
    "combine_rows": lambda c: call(
        kernels.combine_rows,
        weights=rand(1, 2, 3),
        rows=rand(1, 3, 5),
        more=rand(1, 2, 2),
        others=rand(1, 2, 5),
        wide=True,
    ),
    "jacobi_svd": lambda c: call(kernels.jacobi_svd, matrices=rand(1, 2, 3)),
    "jacobi_eigh": lambda c: call(kernels.jacobi_eigh, matrices=torch.eye(3).double()[None]),
    "jacobi_fits": lambda c: call(kernels.jacobi_fits, matrices=rand(1, 2, 3)),
    "available": lambda c: call(kernels.available, device="cpu"),
    "cmake_dir": lambda c: call(kernels.cmake_dir),
    "build_info": lambda c: call(kernels.build_info),
    "self_test": lambda c: call(kernels.self_test, device="cpu"),
    # papers
    "park2023.schedule": lambda c: call(park2023.schedule, scheduler=c.model.scheduler, num_inference_steps=3),
    "park2023.invert": lambda c: call(park2023.invert, model=c.model, image=c.picture, num_inference_steps=5),
    "park2023.invert/text": lambda c: call(
        park2023.invert,
        model=c.text,
        image=Image.new("RGB", (16, 16)),
        num_inference_steps=3,
        prompt="a",
        negative_prompt="b",
    ),
    "park2023.local_basis": lambda c: call(
        park2023.local_basis, model=c.model, point=c.of_park2023, k=2, layer="mid", max_seconds=60.0, generator=seeded()
    ),
    "Walk": lambda c: call(
        park2023.Walk,
        num_steps=2,
        prompt="a",
        layer="mid",
        linearity_tolerance=0.5,
        gain=0.5,
        generator=seeded(),
    ),
    # reports and studies
    **{
        f"{name}.run": lambda c, study=each: call(
            study.run,
            **{"models" if study.several else "model": [c.bent] * 2 if study.several else c.bent},
            settings=replace(TINY, samples=2, levels=(0.9, 0.2)) if study.name in ("rank", "linearity") else TINY,
        )
        for name, each in studies.STUDIES.items()
        if not each.text
    },
    "prompts.run": lambda c: call(
        studies.STUDIES["prompts"].run, model=c.text, settings=replace(TINY, levels=(0.9, 0.2))
    ),
    "Settings": lambda c: call(
        studies.Settings, samples=3, levels=(0.9, 0.5), k=2, tol=0.1, seed=0, steps=5, prompts=("a", "b", "c")
    ),
    "Settings.small": lambda c: call(studies.Settings.small),
    "contact_sheet": lambda c: call(
        report.contact_sheet, rows=[report.Row("a", "b", [c.picture])], heading="h", columns=["c"], cell=16, gap=2
    ),
    "direction_image": lambda c: call(report.direction_image, direction=rand(4, 4, 4)),
    "finding_figure": lambda c: call(report.finding_figure, finding=c.finding),
    "run_page": lambda c: call(report.run_page, record={"command": "edit"}, files=[("a.png", "a picture")]),
    "spectrum_plot": lambda c: call(report.spectrum_plot, basis=c.basis, title="t"),
    "versions": lambda c: call(report.versions),
    "video_gif": lambda c: call(report.video_gif, images=[c.picture, c.picture], side=8, milliseconds=80),
    "walk_gif": lambda c: call(report.walk_gif, images=[c.picture, c.picture], side=8, milliseconds=80, pause=100),
    "write_json": lambda c: call(report.write_json, path=c.folder / "a.json", content={"a": 1}),
    "write_parquet": lambda c: call(report.write_parquet, path=c.folder / "a.parquet", columns={"a": [1]}),
    # models and linearizations
    "Conditioning": lambda c: call(
        lj.Conditioning,
        tensors={"text": rand(2, 3)},
        guidance=models.ClassifierFree(lj.Conditioning({"text": rand(1, 3)}), 2.0),
    ),
    "Conditioning.rows": lambda c: call(c.conditioning.rows, index=slice(1)),
    "Conditioning.expand": lambda c: call(c.conditioning.expand, count=2),
    "Conditioning.split": lambda c: call(c.conditioning.split, size=1, count=2),
    "Conditioning.to": lambda c: call(c.conditioning.to, device="cpu", dtype=torch.float64),
    "Conditioning.unguided": lambda c: call(c.conditioning.unguided),
    "Conditioning.flat": lambda c: call(c.conditioning.flat),
    "Conditioning.from_flat": lambda c: call(lj.Conditioning.from_flat, tensors=c.conditioning.flat()),
    "ClassifierFree": lambda c: call(models.ClassifierFree, negative=lj.Conditioning({"text": rand(1, 3)}), scale=2.0),
    "ClassifierFree/rows": lambda c: call(
        models.ClassifierFree, negative=lj.Conditioning({"text": rand(1, 3)}), scale=torch.tensor([2.0, 3.0])
    ),
    "ClassifierFree.others": lambda c: call(c.conditioning.guidance.others),
    "ClassifierFree.scales": lambda c: call(c.conditioning.guidance.scales),
    "ClassifierFree.flat": lambda c: call(c.conditioning.guidance.flat),
    "ImageGuidance": lambda c: call(
        models.ImageGuidance,
        negative=lj.Conditioning({"text": rand(1, 3)}),
        without=lj.Conditioning({"text": rand(1, 3)}),
        scale=2.0,
        image_scale=torch.tensor([1.5]),
    ),
    "ImageGuidance.others": lambda c: call(c.by_image.others),
    "ImageGuidance.scales": lambda c: call(c.by_image.scales),
    "Denoiser.predict": lambda c: call(c.model.denoiser().predict, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.output": lambda c: call(c.model.denoiser().output, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.eps": lambda c: call(c.model.denoiser().eps, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.x0": lambda c: call(c.model.denoiser().x0, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.output/guided": lambda c: call(
        c.text.denoiser(c.conditioning).output, x=rand(2, 4, 8, 8).float(), t=torch.tensor(500)
    ),
    "Model": lambda c: call(
        lj.Model,
        network=counted().network,
        scheduler=c.model.scheduler,
        call=lambda network, x, t, conditioning: network(x, t)[0],
        layers={"inner": "mid"},
        sample_shape=(3, 4, 4),
        name="own",
    ),
    "Model.conditioning": lambda c: call(
        c.text.conditioning, prompt=["a", "b"], negative_prompt="c", guidance_scale=2.0
    ),
    "Model.conditioning/none": lambda c: call(c.model.conditioning, prompt=None),
    "Model.denoiser": lambda c: call(c.text.denoiser, conditioning=c.conditioning),
    "Model.resolve_layer": lambda c: call(c.model.resolve_layer, layer="mid"),
    "Model.eps": lambda c: call(c.model.eps, x=c.point.sample, t=torch.tensor(500), conditioning=lj.Conditioning()),
    "Model.x0": lambda c: call(c.model.x0, x=c.point.sample, t=torch.tensor(500), conditioning=lj.Conditioning()),
    "Model.feature_map": lambda c: call(c.model.feature_map, layer="mid"),
    "Model.linearization": lambda c: call(
        c.model.linearization,
        layer="mid",
        x=c.point.sample,
        t=torch.tensor(500),
        conditioning=lj.Conditioning(),
        mask=None,
        backend="auto",
    ),
    "Model.to": lambda c: call(counted().to, device="cpu", dtype=torch.float64),
    "Model.identity": lambda c: call(c.model.identity),
    "Linearization.jvp": lambda c: call(c.lin.jvp, v=rand(2, 1, 6)),
    "Linearization.vjp": lambda c: call(c.lin.vjp, u=rand(2, 1, 6)),
    "ProgramLinearization.rebase": lambda c: call(c.lin.at(c.lin.x).rebase, x=rand(1, 6), constants=()),
    "AutodiffLinearization.rebase": lambda c: call(c.autodiff.at(c.autodiff.x).rebase, x=rand(1, 6), constants=()),
    "Linearization.at": lambda c: call(c.autodiff.at, x=rand(1, 6), constants=()),
    "ProgramLinearization.at": lambda c: call(c.lin.at, x=rand(1, 6), constants=()),
    "ProgramLinearization.restriction_cost": lambda c: call(c.lin.at(c.lin.x).restriction_cost, count=1),
    "Estimate.times": lambda c: call(c.rank.energy.times, factors=(2.0,)),
    "Linearization.restrict": lambda c: call(c.lin.at(c.lin.x).restrict, points=[0]),
    "Linearization.restriction_cost": lambda c: call(c.autodiff.at(c.autodiff.x).restriction_cost, count=1),
    "ProgramLinearization.prepare": lambda c: call(c.lin.prepare, probes=2),
    "Linearization.prepare": lambda c: call(c.autodiff.prepare, probes=2),
    "Linearization.check_adjoint": lambda c: call(c.lin.check_adjoint, generator=seeded()),
    "Linearization.to_scipy": lambda c: call(c.lin.to_scipy),
    "JointLinearization.jvp": lambda c: call(c.joint.jvp, v=(rand(2, 1, 6), rand(2, 1, 1))),
    "JointLinearization.vjp": lambda c: call(c.joint.vjp, u=(rand(2, 1, 6), rand(2, 1, 1))),
    "JointLinearization.split_x": lambda c: call(c.joint.split_x, rows=rand(2, 7)),
    "JointLinearization.split_y": lambda c: call(c.joint.split_y, rows=rand(2, 7)),
    "JointLinearization.rebase": lambda c: call(c.joint.rebase, x=(rand(1, 6), rand(1, 1)), constants=()),
    "JointLinearization.check_adjoint": lambda c: call(c.joint.check_adjoint, generator=seeded()),
    "Linearization.recorder": lambda c: call(c.lin.recorder),
    "ProgramLinearization.recorder": lambda c: call(c.lin.recorder),
    "decoder_map": lambda c: call(lj.models.decoder_map, model=c.model),
    "PixelCodec.encode": lambda c: call(c.model.codec.encode, images=[c.picture]),
    "PixelCodec.decode": lambda c: call(c.model.codec.decode, samples=rand(1, 3, 4, 4)),
    "VideoCodec.encode": lambda c: call(models.VideoCodec((2, 4, 4)).encode, videos=[c.picture, c.picture]),
    "VideoCodec.decode": lambda c: call(models.VideoCodec((2, 4, 4)).decode, samples=rand(1, 3, 2, 4, 4)),
    "VideoLatentCodec.encode": lambda c: call(video_latents().encode, videos=[c.picture] * 5),
    "VideoLatentCodec.decode": lambda c: call(video_latents().decode, samples=rand(1, 4, 2, 2, 2).float()),
    "SoundCodec.encode": lambda c: call(sound_latents().encode, waves=rand(1, 2, 16).tanh()),
    "SoundCodec.decode": lambda c: call(sound_latents().decode, samples=rand(1, 4, 4).float()),
    "LatentCodec.encode": lambda c: call(c.text.codec.encode, images=[c.picture]),
    "LatentCodec.decode": lambda c: call(c.text.codec.decode, samples=rand(1, 4, 8, 8).float()),
    "T5TextEncoder.tensors": lambda c: call(c.t5.text.tensors, prompts=["a", "b"]),
    "TextEncoder.tensors": lambda c: call(c.text.text.tensors, prompts=["a", "b"]),
    "TextEncoder.encode": lambda c: call(c.text.text.encode, prompts=["a", "b"]),
    "write_png": lambda c: call(report.write_png, path=c.folder / "a.png", image=c.picture),
}
