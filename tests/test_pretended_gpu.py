"""Whatever takes a device, on a GPU that is pretended: it stays there and gives what the CPU gives.

Rules and whole networks are checked so by all tests that use truth.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from editing.known import Network, convolution, model_of
from geometry.test_cuda import MEASURES, compare
from networks import build_scheduler, build_shallow_unet, point_at, rand
from pipelines import SHALLOW, build_stable_diffusion
from pretended_gpu import GPU, check_on_gpu, held, place, pretended_gpu

import latentjac
from latentjac import editing
from latentjac.diffusion import linearization_at
from latentjac.kernels import attention_primal, attention_tangent
from latentjac.linearization import ProgramLinearization
from latentjac.linearization.chunking import chunk_size
from latentjac.models.layers import Tap
from latentjac.papers import park2023
from latentjac.solvers import Krylov, Randomized, Subspace
from latentjac.studies import STUDIES, Settings

MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[2:6, 2:6] = True


def model_on(device: torch.device | str, dtype: torch.dtype = torch.float64) -> latentjac.Model:
    return latentjac.load(build_shallow_unet().to(dtype), build_scheduler(), device=device)


def point_on(device: torch.device | str) -> latentjac.Point:
    return point_at(rand(1, 3, 8, 8).to(device))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.cat([there, torch.ones(())[None]]),
        lambda there: torch.ones(3).mul_(there),
        lambda there: torch.where(there > 0, there, torch.ones(3)),
        lambda there: torch.randn(3, generator=torch.Generator(), device=GPU),
        lambda there: there.normal_(generator=torch.Generator()),
        lambda there: there.numpy(),
    ],
)
def test_it_refuses_what_a_gpu_refuses(mistake) -> None:
    with pretended_gpu(), pytest.raises((RuntimeError, TypeError)):
        mistake(torch.ones(3, device=GPU))


def test_it_counts_what_the_host_reads_and_sends() -> None:
    with pretended_gpu() as gpu:
        there = torch.ones(3, device=GPU)
        there[1:] *= 2
        assert (there * torch.tensor(2.0)).device == GPU
        assert not gpu.waits + gpu.copies
        assert there.sum().item() == 5
        assert there.tolist() == [1, 2, 2]
        assert there[there > 1].shape == (2,)
        assert gpu.waits.total() == 3
        assert held(there[[2, 0]]).tolist() == [2, 1]
        there.copy_(torch.zeros(3))
        assert gpu.copies.total() == 2
        with pytest.raises(RuntimeError, match="not permitted"):
            gpu.record(lambda: there * there.sum().item())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_passes_wait_for_nothing_at_any_base_point(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    net, x = build_shallow_unet(), rand(2, 3, 8, 8).float()
    with pretended_gpu() as gpu, caplog.at_level(logging.WARNING, "latentjac"):
        t = torch.tensor(500, device=GPU)
        net.to(GPU)
        there = ProgramLinearization(Tap(net, "mid_block"), place(x), t, precision=precision)
        there.prepare(3)
        v = place(rand(3, *x.shape).float())
        gpu.waits.clear()
        found = there.jvp(v)
        assert not gpu.waits
        there.rebase(there.x + 1)
        moved = there.jvp(v)
        assert gpu.waits.total() == 2  # is x finite, and y the value of f
    assert there.engine.passes.recorded == [("cotangent", 3), ("tangent", 3)]
    assert not caplog.records
    here = ProgramLinearization(Tap(build_shallow_unet(), "mid_block"), x, torch.tensor(500))
    for product, base in ((found, x), (moved, x + 1)):
        here.rebase(base)
        expected = here.jvp(held(v))
        assert (held(product) - expected).norm() < (5e-2 if precision == "bf16" else 1e-5) * expected.norm()


def test_a_number_of_the_cpu_among_the_factors() -> None:
    half = torch.tensor(0.5, dtype=torch.float64)
    lin = ProgramLinearization(lambda z: torch.tanh(z / half) * half, rand(2, 3))
    check_on_gpu(lin, rand(4, 2, 3, seed=2), rand(4, 2, 3, seed=3))


def test_a_pass_takes_no_more_entries_than_32_bits_count() -> None:
    assert chunk_size(1, 2**20, GPU, memory_limit=2**40, entries=2**20) == 2**11 - 1
    assert chunk_size(1, 2**40, GPU, memory_limit=2**40, entries=2**40) == 1
    with pretended_gpu():
        lin = ProgramLinearization(lambda z: torch.tanh(z.repeat(1, 100)).sum(1), rand(2, 3).to(GPU))
        assert lin.program.chunk_size(2**50) == (2**31 - 1) // (2 * 300), "those of the largest tangent"


def test_the_twin_of_attention_takes_large_blocks() -> None:
    """Small ones would be thousands of launches for an image of Stable Diffusion."""
    with pretended_gpu() as gpu:
        q, k = torch.ones(1, 8, 512, 8, device=GPU), torch.ones(1, 8, 4096, 8, device=GPU)
        with gpu.counted() as launched:
            attention_tangent(attention_primal(q, k, k), dv=torch.ones(1, *k.shape, device=GPU))
    assert launched.total() < 100


@pytest.mark.filterwarnings("ignore:svd")
def test_bases() -> None:
    def job(device: torch.device | str) -> list[latentjac.LocalBasis]:
        lin = linearization_at(model_on(device), point_on(device), "mid")
        solvers = (Krylov(block_size=4), Subspace(), Randomized())
        return [latentjac.svd(lin, 2, solver=solver, max_passes=20) for solver in solvers]

    with pretended_gpu():
        for found, expected in zip(job(GPU), job("cpu"), strict=True):
            assert found.v.device == found.u.device == found.residuals.device == GPU
            torch.testing.assert_close(found.s.cpu(), expected.s, rtol=1e-5, atol=0)


def test_which_model_it_is_takes_one_transfer() -> None:
    with pretended_gpu() as gpu:
        model = model_on(GPU)
        gpu.waits.clear()
        assert model.identity() == model_on("cpu").identity()
        assert gpu.waits.total() == 1


def test_from_a_picture_to_an_edit() -> None:
    picture = rand(3, 8, 8).sigmoid().float()

    def job(device: torch.device | str) -> tuple[torch.Tensor, ...]:
        model = model_on(device)
        point = latentjac.invert(model, picture, num_inference_steps=4).at(t=0.6)
        basis = latentjac.local_basis(model, point, 2, tol=1e-6)
        edited = latentjac.edit(model, point, basis.v[0], [-1.0, 0.0, 1.0], method=editing.Guidance(num_steps=2))
        return point.sample.cpu(), basis.s.cpu(), edited.samples.cpu()

    with pretended_gpu():
        for there, here in zip(job(GPU), job("cpu"), strict=True):
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


EDITS = [
    {"method": editing.Linear(num_steps=1), "mask": editing.Mask(MASK, null_rank=1)},
    {"method": editing.Guidance(num_steps=1), "compose": True, "distance": [1.0, -1.0]},
    {"method": editing.HSpace()},
    {"method": editing.HSpace(asymmetric=True, inject="point"), "mask": MASK},
    {"method": park2023.Walk(gain=1.0, num_steps=1)},
]


@pytest.mark.filterwarnings("ignore:svd")
def test_edits() -> None:
    def job(device: torch.device | str) -> list[torch.Tensor]:
        model, results = model_on(device), []
        for options in EDITS:
            point = point_on(device)
            if isinstance(options["method"], park2023.Walk):
                point = replace(point, level=5, schedule=park2023.schedule(model.scheduler, 10))
            shape = (2, 8, 8, 8) if options["method"].in_features else (2, 3, 8, 8)
            way = rand(*shape, seed=4)[: 2 if "compose" in options else 1].to(device)
            results.append(latentjac.edit(model, point, way, **options).samples.cpu())
        return results

    with pretended_gpu():
        for found, expected, options in zip(job(GPU), job("cpu"), EDITS, strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2, msg=lambda m, o=options: f"{o}: {m}")


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "rank"])  # which takes all triplets there are
def test_studies(name: str, tmp_path: Path) -> None:
    # The fewest that each takes: every operator is a call of Python here.
    samples = 3 if name in ("samples", "transport", "prompts") else 2
    levels = (0.9, 0.5, 0.2) if name in ("timesteps", "complexity") else (0.9, 0.2)
    settings = Settings(samples=samples, levels=levels, k=1, tol=0.1, steps=4, prompts=("a", "b", "c"))
    with pretended_gpu():
        study = STUDIES[name]
        if study.text:
            model = latentjac.load(build_stable_diffusion(tmp_path, **SHALLOW)).to(GPU)
        else:
            # Two layers: it is the study whose tensors might stay behind.
            network = Network(8, torch.nn.Sequential(convolution(1), torch.nn.SiLU()), convolution(2))
            model = model_of(network.float()).to(GPU)
        finding = study.run([model, model] if study.several else model, settings)
    assert finding.curves


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name: str) -> None:
    with pretended_gpu():
        compare(*(MEASURES[name](lambda value, d=device: value.to(d)) for device in (GPU, "cpu")))
