"""Group, layer and RMS norm fused with the activation behind it.

Layout is channels-last: `x` is [N, S, C] with N samples, S spatial positions and C channels in G groups; statistics
are taken per sample and group over S * C/G values. A channels-last image [N, C, H, W] is
`x.permute(0, 2, 3, 1).reshape(N, H * W, C)`, a view. Layer and RMS norm over the last dimension are [rows, 1, C] with
`groups=1`.

    primal      xhat = (x - mean) * rstd,  z = gamma * xhat + beta,  y = act(z),  a = gamma * rstd * act'(z)
    tangent     dy = a * (t - mean t - xhat * mean(xhat * t))
    cotangent   dx = w - mean w - xhat * mean(xhat * w),  w = a * u

`xhat` and `a` are kept by the primal and shared by all probes, so a tangent is read once and written once. With
`rms=True` no mean is subtracted, in none of the three.

A NaN or Inf in an input makes its own group NaN in the result and touches nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentjac.arguments import check_bool, check_choice, check_int, check_kind, check_number, shown

from . import reference
from .guards import refuse_differentiated, refuse_tracing
from .launch import address, launch
from .native import native_for
from .tensors import DTYPES, buffer, check_like, check_shape, check_type, readable, refuse_overlap

ACTIVATIONS = ("identity", "silu", "gelu", "gelu_tanh", "relu")
"""Names of the activations, in the order of `Activation` in csrc/kernels.h. `gelu` is the erf form."""


class NormActPrimal(NamedTuple):
    """What `norm_act_primal` returns, and the buffers it can be given.

    Attributes:
        y: the output, shape [N, S, C], type of x; None when it was not wanted.
        xhat: the normalised input, shape [N, S, C], float64 for float64 x, else float32.
        a: gamma * rstd * act'(z), shape and type of xhat.
    """

    y: Tensor | None
    xhat: Tensor
    a: Tensor


def norm_act_primal(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
    activation: str = "identity",
    rms: bool = False,
    want_output: bool = True,
    out: NormActPrimal | None = None,
) -> NormActPrimal:
    """Normalise, scale, shift and activate `x`, and keep what the tangents need.

    Args:
        x: shape [N, S, C]. float32 or float64, on CUDA also bfloat16 or float16.
        gamma: scale, shape [C] or [N, C] (one per sample); None: ones.
        beta: shift, shape [C] or [N, C]; None: zeros.
        groups: number of groups; divides C.
        eps: added to the variance (with `rms`, to the mean square).
        activation: one of `ACTIVATIONS`.
        rms: do not subtract the mean.
        want_output: False leaves `y` out, where only derivatives are needed.
        out: contiguous buffers to write into; its `y` may be None when `want_output` is False.

    Returns:
        y, xhat and a; the buffers of `out` where given.

    Raises:
        ValueError: a shape, a number or a name is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "norm_act_primal"
    refuse_tracing(name)
    check_kind(name, "out", out, NormActPrimal, "a NormActPrimal", optional=True)
    buffers = out if out is not None else NormActPrimal(None, None, None)  # type: ignore[arg-type]
    refuse_differentiated(
        name, x=x, gamma=gamma, beta=beta, **{f"out.{part}": getattr(buffers, part) for part in buffers._fields}
    )
    _check_data(name, "x", x, 3)
    samples, positions, channels = x.shape
    groups = _check_groups(name, channels, groups)
    activation = check_choice(name, "activation", activation, ACTIVATIONS)
    eps = check_number(name, "eps", eps, 0, least=True)
    rms, want_output = check_bool(name, "rms", rms), check_bool(name, "want_output", want_output)
    kind = reference.statistics_dtype(x.dtype)
    gamma, gamma_stride = _check_affine(name, "gamma", gamma, x, kind)
    beta, beta_stride = _check_affine(name, "beta", beta, x, kind)
    y = buffer(name, "out.y", buffers.y, x.shape, x.dtype, x.device) if want_output else None
    xhat = buffer(name, "out.xhat", buffers.xhat, x.shape, kind, x.device)
    a = buffer(name, "out.a", buffers.a, x.shape, kind, x.device)
    results = {"out.y": y if buffers.y is not None else None, "out.xhat": buffers.xhat, "out.a": buffers.a}
    refuse_overlap(name, {"x": x, "gamma": gamma, "beta": beta}, results)
    if x.numel() == 0:
        return NormActPrimal(y, xhat, a)
    module = native_for(name, x)
    if module is None:
        with torch.no_grad():
            values = reference.norm_act_primal(x, gamma, beta, groups, eps, activation, rms)
            for target, value in zip((y, xhat, a), values, strict=True):
                if target is not None:
                    target.copy_(value)
        return NormActPrimal(y, xhat, a)
    x = readable(x).contiguous()
    launch(module, name, x.device, {
        "x": x.data_ptr(), "gamma": address(gamma), "beta": address(beta), "y": address(y),
        "xhat": xhat.data_ptr(), "a": a.data_ptr(), "gamma_stride": gamma_stride, "beta_stride": beta_stride,
        "samples": samples, "positions": positions, "channels": channels, "groups": groups,
        "eps": eps, "dtype": DTYPES[x.dtype], "activation": ACTIVATIONS.index(activation), "rms": rms,
    })  # fmt: skip
    return NormActPrimal(y, xhat, a)


def norm_act_tangent(
    t: Tensor,
    a: Tensor,
    xhat: Tensor,
    *,
    groups: int,
    rms: bool = False,
    out: Tensor | None = None,
    accumulate: bool = False,
) -> Tensor:
    """Push tangents of the input through a norm and its activation (JVP).

    Args:
        t: tangents, shape [P, N, S, C], one for each of P probes.
        a: from the primal, shape [N, S, C].
        xhat: from the primal, shape [N, S, C].
        groups: as in the primal.
        rms: as in the primal.
        out: contiguous buffer, shape and type of `t`. It may be `t` itself: then no other memory is touched.
        accumulate: add to `out` instead of overwriting it.

    Returns:
        Tangents of the output, shape [P, N, S, C]; `out` where given.

    Raises:
        ValueError: a shape or a number is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.

    Cost:
        One read and one write of `t` from memory, where a few groups of one sample fit the second-level cache.
    """
    return _linear("norm_act_tangent", "t", t, a, xhat, groups, rms, False, out, accumulate)


def norm_act_cotangent(
    u: Tensor,
    a: Tensor,
    xhat: Tensor,
    *,
    groups: int,
    rms: bool = False,
    out: Tensor | None = None,
    accumulate: bool = False,
) -> Tensor:
    """Pull cotangents of the output back through a norm and its activation (VJP): the transpose of the tangent.

    Args:
        u: cotangents, shape [P, N, S, C].
        a: from the primal, shape [N, S, C].
        xhat: from the primal, shape [N, S, C].
        groups: as in the primal.
        rms: as in the primal.
        out: contiguous buffer, shape and type of `u`. It may be `u` itself.
        accumulate: add to `out` instead of overwriting it.

    Returns:
        Cotangents of the input, shape [P, N, S, C]; `out` where given.

    Raises:
        ValueError: a shape or a number is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    return _linear("norm_act_cotangent", "u", u, a, xhat, groups, rms, True, out, accumulate)


def _linear(
    name: str, label: str, t: Tensor, a: Tensor, xhat: Tensor, groups: int, rms: bool, transpose: bool,
    out: Tensor | None, accumulate: bool,
) -> Tensor:  # fmt: skip
    refuse_tracing(name)
    refuse_differentiated(name, **{label: t}, a=a, xhat=xhat, out=out)
    _check_data(name, label, t, 4)
    probes, samples, positions, channels = t.shape
    groups = _check_groups(name, channels, groups)
    rms, accumulate = check_bool(name, "rms", rms), check_bool(name, "accumulate", accumulate)
    kind = reference.statistics_dtype(t.dtype)
    for key, value in (("a", a), ("xhat", xhat)):
        check_like(name, key, value, t.shape[1:], kind, t.device)
    if accumulate and out is None:
        raise ValueError(f"{name}: accumulate must come with out, got out=None")
    given, out = out, buffer(name, "out", out, t.shape, t.dtype, t.device)
    # Nothing is read after it was written where each entry of out lies in the place of its own input.
    itself = t.is_contiguous() and out.data_ptr() == t.data_ptr()
    refuse_overlap(name, {label: None if itself else t, "a": a, "xhat": xhat}, {"out": given})
    if t.numel() == 0:
        return out
    module = native_for("norm_act_linear", t)
    if module is None:
        with torch.no_grad():
            value = reference.norm_act_linear(t, a, xhat, groups, rms, transpose)
            return out.add_(value) if accumulate else out.copy_(value)
    t, a, xhat = (readable(v).contiguous() for v in (t, a, xhat))
    launch(module, "norm_act_linear", t.device, {
        "t": t.data_ptr(), "a": a.data_ptr(), "xhat": xhat.data_ptr(), "out": out.data_ptr(),
        "probes": probes, "samples": samples, "positions": positions, "channels": channels, "groups": groups,
        "dtype": DTYPES[t.dtype], "rms": rms, "transpose": transpose, "accumulate": accumulate,
    })  # fmt: skip
    return out


def _check_data(name: str, label: str, x: Tensor, dims: int) -> None:
    expected = "[N, S, C]" if dims == 3 else "[P, N, S, C]"
    check_shape(name, label, x, expected, dims)
    check_type(name, label, x)


def _check_groups(name: str, channels: int, groups: int) -> int:
    number: int = check_int(name, "groups", groups)
    if number < 1 or channels % number != 0:
        raise ValueError(f"{name}: groups must divide the number of channels, {channels}, got {shown(number)}")
    return number


def _check_affine(
    name: str, label: str, value: Tensor | None, x: Tensor, kind: torch.dtype
) -> tuple[Tensor | None, int]:
    """The coefficient contiguous and in the kernel's type, and its stride from sample to sample."""
    if value is None:
        return None, 0
    samples, _, channels = x.shape
    check_shape(name, label, value, f"[{channels}] or [{samples}, {channels}]", value.dim())
    if tuple(value.shape) not in {(channels,), (samples, channels)}:
        raise ValueError(
            f"{name}: {label} must have shape [{channels}] or [{samples}, {channels}], got {list(value.shape)}"
        )
    if value.device != x.device:
        raise TypeError(f"{name}: {label} must be on {x.device}, got {value.device}")
    if value.dtype not in (x.dtype, kind):
        raise TypeError(f"{name}: {label} must be {x.dtype} or {kind}, got {value.dtype}")
    check_like(name, label, value, value.shape, value.dtype, x.device)
    return readable(value.detach().to(kind)).contiguous(), channels if value.dim() == 2 else 0
