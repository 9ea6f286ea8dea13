"""Kernels are called in one place, so that none forgets the GPU or torch's stream, and by the names of their fields."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import latentjac.kernels
from latentjac.kernels import native
from latentjac.kernels.launch import launch

FOLDER = Path(latentjac.kernels.__file__).parent
NOT_KERNELS = {"jacobi_fits"}


def test_kernels_are_only_called_by_launch() -> None:
    calls = [
        node.func
        for path in FOLDER.glob("*.py")
        if path.stem not in {"native", "info", "launch"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    direct = {
        func.attr
        for func in calls
        if isinstance(func, ast.Attribute) and ast.unparse(func.value) in {"module", "LOADED"}
    }
    # And what is called by a name that is looked up.
    direct |= {
        ast.unparse(func) for func in calls if isinstance(func, ast.Call) and ast.unparse(func.func) == "getattr"
    }
    assert direct <= NOT_KERNELS
    assert sum(isinstance(func, ast.Name) and func.id == "launch" for func in calls) >= 10


def test_the_self_test_calls_every_kernel(native_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    called: Counter[str] = Counter()

    def counted(name: str) -> Any:
        return lambda *given: (called.update([name]), getattr(native_module, name)(*given))

    kernels = native_module.kernels["cpu"]
    module = SimpleNamespace(**{**vars(native_module), **{name: counted(name) for name in kernels}})
    monkeypatch.setattr(native, "LOADED", native.Loaded(module, "", "native"))  # type: ignore[arg-type]
    assert all(check.passed for check in latentjac.kernels.self_test())
    assert set(called) == kernels


@pytest.mark.parametrize("needs", [0, 24])
def test_the_device_decides_what_is_called(needs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = SimpleNamespace(
        workspaces={"kernel"},
        kernel=lambda *given: seen.append(("cpu", *given)),
        cuda_kernel=lambda *given: seen.append(("cuda", *given)),
        kernel_workspace=lambda device, call: seen.append(("size", device, call)) or needs,
    )
    made = torch.empty(24, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: SimpleNamespace(cuda_stream=70 + of.index))
    monkeypatch.setattr(
        torch, "empty", lambda size, **given: made if (size, str(given["device"])) == (24, "cuda:3") else 0
    )
    call = {"x": 1, "rows": 2}
    launch(module, "kernel", torch.device("cuda:3"), call)  # type: ignore[arg-type]
    assert seen == [("size", 3, call), ("cuda", 3, 73, made.data_ptr() if needs else 0, call)]
    seen.clear()
    launch(module, "kernel", torch.device("cpu"), call)  # type: ignore[arg-type]
    assert seen == [("cpu", torch.get_num_threads(), call)]


SIZES = {"value_stride": 4, "gate_stride": 4, "probes": 0, "rows": 0, "channels": 4, "dtype": 0}
CALL = {**dict.fromkeys(("value", "gate", "a", "b", "out")), **SIZES}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "GatedTangent must have 11 fields, got {}"),
        ({key: CALL[key] for key in CALL if key != "rows"} | {"row": 0}, "GatedTangent must have a field rows, got"),
        ({**CALL, "more": 1}, "GatedTangent must have 11 fields, got"),
        ({**CALL, "dtype": 4}, "dtype must be the number of a DType, got 4"),
        ({**CALL, "rows": 1.5}, "rows must be a whole number, got 1.5"),
        ({**CALL, "rows": 1 << 70}, "rows must be a whole number, got 118"),
        ({**CALL, "out": "x"}, "out must be an address or None, got 'x'"),
        ({**CALL, "out": 1 << 70}, "out must be an address or None, got 118"),
    ],
)
def test_fields_are_checked(native_module: ModuleType, call: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        native_module.gated_tangent(1, call)
    native_module.gated_tangent(1, CALL)


def test_fields_of_arrays_and_settings_are_checked(native_module: ModuleType) -> None:
    none = (None, 0, 0, 0, 0)
    sizes = {"probes": 0, "batch": 1, "heads": 1, "rows": 1, "channels": 1, "value_channels": 1, "dtype": 0}
    call = {"matrices": None, "t": none, "out": none, **sizes}
    native_module.rowwise_product(1, call)
    native_module.rowwise_product(
        1, {**call, "t": dict(zip(("at", "probe", "batch", "head", "row"), none, strict=True))}
    )
    for wrong, message in (
        (none[:4], "Strided must have 5 fields"),
        ((None, 0, 0, 0, "x"), "row must be a whole number, got 'x'"),
        ([*none], "Strided must be a dict or a tuple"),
    ):
        with pytest.raises(TypeError, match=message):
            native_module.rowwise_product(1, {**call, "t": wrong})
    names = ("t", "a", "xhat", "out", "probes", "samples", "positions", "channels", "groups", "dtype")
    linear = {**dict.fromkeys(names, 0), "groups": 1, "rms": False, "transpose": False, "accumulate": False}
    native_module.norm_act_linear(1, linear)
    with pytest.raises(TypeError, match="rms must be True or False, got 1"):
        native_module.norm_act_linear(1, {**linear, "rms": 1})
