"""Kernels: one native call each, with a reference implementation in PyTorch for where the native module does not run.

`LATENTJAC_KERNELS=auto|native|torch` in the environment chooses; `build_info()` says what was chosen and why.
"""

from latentjac.built import cmake_dir

from .attention import (
    AttentionPrimal,
    attention_cotangent,
    attention_primal,
    attention_tangent,
    rowwise_product,
)
from .gated import gated_cotangent, gated_tangent
from .info import BuildInfo, available, build_info
from .jacobi import JacobiEigh, JacobiSvd, jacobi_eigh, jacobi_fits, jacobi_svd
from .norm_act import ACTIVATIONS, NormActPrimal, norm_act_cotangent, norm_act_primal, norm_act_tangent
from .rows import combine_rows, gram
from .self_test import SelfTest, self_test

__all__ = [
    "ACTIVATIONS",
    "AttentionPrimal",
    "BuildInfo",
    "JacobiEigh",
    "JacobiSvd",
    "NormActPrimal",
    "SelfTest",
    "attention_cotangent",
    "attention_primal",
    "attention_tangent",
    "available",
    "build_info",
    "cmake_dir",
    "combine_rows",
    "gated_cotangent",
    "gated_tangent",
    "gram",
    "jacobi_eigh",
    "jacobi_fits",
    "jacobi_svd",
    "norm_act_cotangent",
    "norm_act_primal",
    "norm_act_tangent",
    "rowwise_product",
    "self_test",
]
