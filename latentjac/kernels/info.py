"""What was built, what runs here, and a quick check that it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from . import reference
from .gated import gated_cotangent, gated_tangent
from .native import LOADED, sources_match
from .norm_act import ACTIVATIONS, norm_act_cotangent, norm_act_primal, norm_act_tangent


@dataclass(frozen=True)
class BuildInfo:
    """The native module in use, or why there is none.

    Attributes:
        native: whether the native kernels are in use.
        why_not: the reason when they are not, else "".
        path: file of the module.
        sources_match: whether it was built from the csrc folder of this checkout; None outside a checkout.
        compiler: name and version of the C++ compiler.
        cxx_flags: its flags, with those of each instruction set.
        instruction_sets: the instruction sets compiled in.
        instruction_set: the one chosen on this processor.
        openmp: whether it was built with OpenMP.
        openmp_threads: threads OpenMP would use now (torch.set_num_threads governs it).
        torch_threads: what torch would use now.
        cuda_built: whether CUDA kernels are compiled in.
        nvcc: version of nvcc.
        cuda_architectures: what they were compiled for ("-real": machine code, "-virtual": PTX).
        gpu: whether torch sees a GPU.
    """

    native: bool
    why_not: str
    path: str
    sources_match: bool | None
    compiler: str
    cxx_flags: str
    instruction_sets: tuple[str, ...]
    instruction_set: str
    openmp: bool
    openmp_threads: int
    torch_threads: int
    cuda_built: bool
    nvcc: str
    cuda_architectures: tuple[str, ...]
    gpu: bool


class SelfTest(NamedTuple):
    """One check of `self_test`: its name, whether it passed, and the relative error found."""

    name: str
    passed: bool
    error: float


def available(device: str | torch.device = "cpu") -> bool:
    """Whether native kernels run on `device` (a type such as "cuda" or a torch.device)."""
    kind = torch.device(device).type
    if LOADED.module is None:
        return False
    return kind == "cpu" or (kind == "cuda" and bool(LOADED.module.cuda_built) and torch.cuda.is_available())


def build_info() -> BuildInfo:
    """Describe the native module and this machine. Needs no GPU and starts no kernel."""
    module = LOADED.module
    built = module.build_info() if module is not None else {}
    return BuildInfo(
        native=module is not None,
        why_not=LOADED.reason,
        path=str(getattr(module, "__file__", "")),
        sources_match=sources_match(built["source_hash"]) if built else None,
        compiler=built.get("compiler", ""),
        cxx_flags=built.get("cxx_flags", ""),
        instruction_sets=tuple(built.get("isa_compiled", "").split()),
        instruction_set=built.get("isa", ""),
        openmp=built.get("openmp", False),
        openmp_threads=module.max_threads() if module is not None else 0,
        torch_threads=torch.get_num_threads(),
        cuda_built=bool(module is not None and module.cuda_built),
        nvcc=built.get("cuda_version", ""),
        cuda_architectures=tuple(built.get("cuda_architectures", "").split()),
        gpu=torch.cuda.is_available(),
    )


@torch.no_grad()
def self_test(device: str | torch.device = "cpu") -> list[SelfTest]:
    """Run every kernel on small shapes against its PyTorch twin, and check that the cotangent is the transpose.

    Args:
        device: where to run.

    Returns:
        One entry a check, in well under a second on a CPU. Without native kernels the twins meet themselves, and
        only the adjoint says something.
    """
    results = []
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        for shape, groups in (((2, 35, 24), 4), ((3, 1, 37), 1)):
            for activation in ACTIVATIONS:
                label = f"{activation} {'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"
                for name, error in _errors(shape, groups, activation, dtype, torch.device(device)):
                    results.append(SelfTest(f"norm_act {name} {label}", error <= tolerance, error))
        for name, error in _gated_errors(dtype, torch.device(device)):
            label = f"gated {name} {str(dtype).removeprefix('torch.')}"
            results.append(SelfTest(label, error <= tolerance, error))
    return results


def _errors(
    shape: tuple[int, int, int], groups: int, activation: str, dtype: torch.dtype, device: torch.device
) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(device, dtype)

    x, gamma, beta = draw(*shape) + 0.5, draw(shape[-1]), draw(shape[-1])
    t, u = draw(3, *shape), draw(3, *shape)
    primal = norm_act_primal(x, gamma, beta, groups=groups, activation=activation)
    dy = norm_act_tangent(t, primal.a, primal.xhat, groups=groups)
    dx = norm_act_cotangent(u, primal.a, primal.xhat, groups=groups)
    y, xhat, a = reference.norm_act_primal(x.double(), gamma.double(), beta.double(), groups, 1e-5, activation, False)
    expected_dy = reference.norm_act_linear(t.double(), a, xhat, groups, False, False)
    expected_dx = reference.norm_act_linear(u.double(), a, xhat, groups, False, True)
    assert primal.y is not None
    left, right = (u.double() * dy.double()).sum(), (dx.double() * t.double()).sum()
    scale = u.double().norm() * dy.double().norm()
    return [
        ("primal", max(_relative(primal.y, y), _relative(primal.xhat, xhat), _relative(primal.a, a))),
        ("tangent", _relative(dy, expected_dy)),
        ("cotangent", _relative(dx, expected_dx)),
        ("adjoint", float((left - right).abs() / scale)),
    ]


def _gated_errors(dtype: torch.dtype, device: torch.device) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)
    t, u, shared = (
        torch.randn(*size, generator=generator, dtype=torch.float64).to(device, dtype)
        for size in ((3, 5, 74), (3, 5, 37), (2, 5, 37))
    )
    (value, gate), (a, b) = t.chunk(2, -1), shared
    dy, dx = gated_tangent(value, gate, a, b), torch.cat(gated_cotangent(u, a, b), -1)
    expected = reference.gated_tangent(value.double(), gate.double(), a.double(), b.double())
    adjoint = (u.double() * dy.double()).sum() - (dx.double() * t.double()).sum()
    return [
        ("tangent", _relative(dy, expected)),
        ("cotangent", _relative(dx, torch.cat(reference.gated_cotangent(u.double(), a.double(), b.double()), -1))),
        ("adjoint", float(adjoint.abs() / (u.double().norm() * dy.double().norm()))),
    ]


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())
