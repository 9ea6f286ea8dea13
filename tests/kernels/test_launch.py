"""Every kernel is called in one place, so that none forgets the GPU or torch's stream."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import latentjac.kernels
from latentjac.kernels.launch import launch

FOLDER = Path(latentjac.kernels.__file__).parent
SOURCE = Path(__file__).parents[2] / "csrc" / "module.cpp"
ON_CPU_ALONE = {"rowwise_product"}
ON_CUDA_ALONE = {"gram", "combine_rows", "jacobi"}
NOT_KERNELS = {
    "Attention",
    "gram_workspace",
    "jacobi_needs",
    "jacobi_room",
    "jacobi_workspace",
    "norm_act_workspace",
}


def calls() -> list[ast.Call]:
    return [
        node
        for path in FOLDER.glob("*.py")
        if path.stem not in {"native", "info", "launch"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_kernels_are_only_called_by_launch() -> None:
    direct = {
        call.func.attr
        for call in calls()
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "module"
    }
    assert direct <= NOT_KERNELS


def test_every_kernel_is_bound_for_its_devices() -> None:
    names = {
        call.args[1].value
        for call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "launch" and isinstance(call.args[1], ast.Constant)
    }
    assert len(names) >= 11
    source = SOURCE.read_text()
    for name in names:
        assert (f'm.def("{name}"' in source) != (name in ON_CUDA_ALONE), name
        assert (f'm.def("cuda_{name}"' in source) != (name in ON_CPU_ALONE), name


@pytest.mark.parametrize("device", ["cpu", "cuda:3"])
def test_the_device_decides_what_is_called(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = SimpleNamespace(
        kernel=lambda *given: seen.append(("cpu", *given)), cuda_kernel=lambda *given: seen.append(("cuda", *given))
    )
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: SimpleNamespace(cuda_stream=70 + of.index))
    launch(module, "kernel", torch.device(device), 1, 2)  # type: ignore[arg-type]
    expected = ("cpu", torch.get_num_threads(), 1, 2) if device == "cpu" else ("cuda", 3, 73, 1, 2)
    assert seen == [expected]
