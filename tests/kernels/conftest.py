"""Devices, seeds and the native module for the kernel tests.

A missing native module fails the tests; only LATENTJAC_KERNELS=torch asks for the reference implementations alone. A
missing GPU skips the CUDA cases, unless LATENTJAC_REQUIRE_CUDA=1 turns that into a failure.
"""

import os

import cuda_on_cpu
import pytest
import torch
from devices import require_gpu

from latentjac import kernels

REFERENCE_ONLY = os.environ.get("LATENTJAC_KERNELS") == "torch"


@pytest.fixture(autouse=True, scope="session")
def native_kernels_are_there():
    if REFERENCE_ONLY:
        return
    info = kernels.build_info()
    if not info.native:
        pytest.fail(f"the native module is missing: {info.why_not}; LATENTJAC_KERNELS=torch tests without it")
    if info.sources_match is False:
        pytest.fail(f"{info.path} was built from other sources than this checkout's csrc: run pip install . again")


@pytest.fixture
def native_module():
    if REFERENCE_ONLY:
        pytest.skip("LATENTJAC_KERNELS=torch")
    from latentjac.kernels.native import LOADED

    return LOADED.module


@pytest.fixture(params=["cpu", "emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Where kernels run; emulated: those for CUDA, on the CPU."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    if request.param != "cuda":
        return torch.device("cpu")
    usable = torch.cuda.is_available() and (REFERENCE_ONLY or kernels.available("cuda"))
    return require_gpu(usable, "GPU with native CUDA kernels")


@pytest.fixture
def on_cuda(request, device):
    """Whether the kernels of the device are those for CUDA."""
    return request.node.callspec.params["device"] != "cpu" and not REFERENCE_ONLY


@pytest.fixture
def draw(device):
    """Standard normal tensors, the same for every device and dtype."""
    generator = torch.Generator().manual_seed(20)

    def sample(*shape, dtype=torch.float64):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

    return sample


@pytest.fixture(scope="session")
def emulator(tmp_path_factory, made_once):
    """The CUDA sources compiled for the CPU; without a compiler this fails."""
    if REFERENCE_ONLY:
        pytest.skip("LATENTJAC_KERNELS=torch")
    with made_once("cuda_on_cpu_objects") as objects:
        return cuda_on_cpu.build(tmp_path_factory.mktemp("cuda_on_cpu"), objects)


@pytest.fixture
def emulated(emulator):
    """The CUDA kernels, for tensors of the CPU."""
    with cuda_on_cpu.emulated(emulator) as module:
        yield module
