"""Kernels: one native call each, with a PyTorch twin that runs where the native module does not.

`LATENTJAC_KERNELS=auto|native|torch` in the environment chooses; `build_info()` says what was chosen and why.
"""

from .info import BuildInfo, SelfTest, available, build_info, self_test
from .norm_act import ACTIVATIONS, NormActPrimal, norm_act_cotangent, norm_act_primal, norm_act_tangent

__all__ = [
    "ACTIVATIONS",
    "BuildInfo",
    "NormActPrimal",
    "SelfTest",
    "available",
    "build_info",
    "norm_act_cotangent",
    "norm_act_primal",
    "norm_act_tangent",
    "self_test",
]
