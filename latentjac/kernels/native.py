"""Finds and loads the native module `latentjac._native`.

torch is imported first, so that the module resolves its OpenMP calls to the `libgomp` torch already loaded: one
thread pool, governed by `torch.set_num_threads`.

Run from the root of a checkout, `import latentjac` finds the source folder, which lacks the built module. Then the
module file of an installed latentjac distribution is taken instead.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch  # before the native module: see above

from latentjac import built

from .tensors import DTYPES

INTERFACE = 6
"""The number of `csrc/kernels.h` that this Python side speaks (LATENTJAC_INTERFACE_MAJOR there)."""

CHOICES = ("auto", "native", "torch")
_MODULE = "latentjac._native"


@dataclass(frozen=True)
class Loaded:
    """What loading came to: a module, or the reason why there is none."""

    module: ModuleType | None
    reason: str
    wish: str


def wish() -> str:
    """Value of LATENTJAC_KERNELS: `auto`, `native` or `torch`.

    Raises:
        ImportError: another value.
    """
    value = os.environ.get("LATENTJAC_KERNELS", "auto").lower()
    if value not in CHOICES:
        raise ImportError(f"latentjac.kernels: LATENTJAC_KERNELS must be one of {', '.join(CHOICES)}, got {value!r}")
    return value


def load() -> Loaded:
    """Load the native module as LATENTJAC_KERNELS asks.

    Returns:
        The module, or None with the reason (kept for `build_info`).

    Raises:
        ImportError: LATENTJAC_KERNELS=native and the module cannot be used; the message says why.
    """
    chosen = wish()
    if chosen == "torch":
        return Loaded(None, "LATENTJAC_KERNELS=torch asks for the reference implementations", chosen)
    module, reasons = None, []
    for attempt in (_import_neighbour, _load_from_distribution):
        try:
            module = attempt()
        except Exception as error:  # a broken file must not take pure PyTorch down with it
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        if module is None:
            continue
        found = getattr(module, "interface", None)
        if found == INTERFACE:
            sys.modules[_MODULE] = module
            return Loaded(module, "", chosen)
        reasons.append(
            f"{module.__file__} has interface number {found}, this latentjac expects {INTERFACE}: "
            "build it again with pip install ."
        )
        sys.modules.pop(_MODULE, None)
    reason = "; ".join(reasons) or "no built module found: install latentjac with pip install . (and a C++17 compiler)"
    if chosen == "native":
        raise ImportError(
            f"latentjac.kernels: LATENTJAC_KERNELS=native, but the native module cannot be used: {reason}"
        )
    return Loaded(None, reason, chosen)


def _import_neighbour() -> ModuleType | None:
    """The module beside this package's own sources (installed or editable)."""
    try:
        return importlib.import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name != _MODULE:
            raise
        return None


def _load_from_distribution() -> ModuleType | None:
    """The module file of an installed latentjac, when the package itself came from a source folder."""
    path = built.installed_module()
    return None if path is None else _load_file(path)


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not an extension module for this Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources_match(built_hash: str) -> bool | None:
    """Whether a module was built from the csrc folder beside this package; None where there is no such folder."""
    root = Path(__file__).resolve().parents[2]
    sources = root / "csrc"
    if not sources.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*")):
        if path.suffix in {".h", ".cpp", ".cu", ".cuh"}:
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16] == built_hash


LOADED = load()
"""Decided once, when `latentjac.kernels` is imported."""


def native_for(name: str, tensor: torch.Tensor) -> ModuleType | None:
    """The native module if it has this kernel for the tensor's device and type, else None (the reference runs).

    Raises:
        RuntimeError: LATENTJAC_KERNELS=native, and the kernel exists for the device, but not in this build or for this
            type; or the device has no kernels at all.
    """
    module = LOADED.module
    if module is None:
        return None
    kind = tensor.device.type
    offered = module.kernels.get(kind)
    if offered is not None:
        if name not in offered:
            return None
        if DTYPES[tensor.dtype] < module.types[kind]:
            return module
    if LOADED.wish == "native":
        raise RuntimeError(
            f"latentjac.kernels: LATENTJAC_KERNELS=native, but there is no native kernel for {tensor.dtype} on "
            f"{kind} in this build"
        )
    return None
