"""Valid arguments of public functions: kernels."""

from __future__ import annotations

import torch
from calls.things import Baseline, call
from networks import rand

from latentjac import kernels

BASELINES: dict[str, Baseline] = {
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
}
