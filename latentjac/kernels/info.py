"""What was built, and what runs here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .native import LOADED, sources_match


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


def available(device: str | torch.device = "cpu") -> bool:
    """Whether native kernels run on `device` (a type such as "cuda" or a torch.device).

    Raises:
        TypeError: device is neither.
        ValueError: there is no such type.
    """
    kind = device_of("available", device).type
    if LOADED.module is None:
        return False
    return kind == "cpu" or (kind == "cuda" and LOADED.module.types["cuda"] > 0 and torch.cuda.is_available())


def device_of(function: str, device: str | torch.device) -> torch.device:
    """The device of a name."""
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f"{function}: device must be a str or torch.device, got {type(device).__name__}")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"{function}: device must be one such as 'cpu' or 'cuda', got {device!r}") from None


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
        cuda_built=module is not None and module.types["cuda"] > 0,
        nvcc=built.get("cuda_version", ""),
        cuda_architectures=tuple(built.get("cuda_architectures", "").split()),
        gpu=torch.cuda.is_available(),
    )
