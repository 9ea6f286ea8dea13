"""What PyTorch offers for products with a Jacobian and its transpose, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch

from latentjac.linearization.autodiff import differentiable

Tensor = torch.Tensor
Case = Callable[[], object]
Failures = dict[str, str]


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def peers(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, u: Tensor) -> tuple[dict[str, Case], Failures]:
    """Tangents of probes v and cotangents of probes u at x, in all ways; and why those fail that do.

    Every case is run once, which warms it up.
    """

    def forward_mode() -> Case:
        def run() -> None:
            with differentiable():
                torch.func.vmap(lambda w: torch.func.jvp(f, (x,), (w,))[1])(v)

        return run

    def linearized() -> Case:
        with differentiable():
            push = torch.func.linearize(f, x)[1]
        return lambda: torch.func.vmap(push)(v)

    def reverse_mode() -> Case:
        with differentiable():
            pull = torch.func.vjp(f, x)[1]

        def run() -> None:
            with differentiable():
                torch.func.vmap(lambda w: pull(w)[0])(u)

        return run

    def batched() -> Case:
        def run() -> None:
            with torch.enable_grad(), differentiable():
                leaf = x.clone().requires_grad_()
                torch.autograd.grad(f(leaf), leaf, u, is_grads_batched=True)

        return run

    return _working(
        {"vmap(jvp)": forward_mode, "vmap(linearize)": linearized, "vmap(vjp)": reverse_mode, "batched grad": batched}
    )


def compiled(cases: dict[str, Case]) -> tuple[dict[str, Case], Failures]:
    """The same through torch.compile, and why those fail that do."""

    def make(case: Case) -> Case:
        torch._dynamo.reset()
        return torch.compile(case)

    return _working({f"compile({name})": lambda case=case: make(case) for name, case in cases.items()})


def _working(makers: dict[str, Callable[[], Case]]) -> tuple[dict[str, Case], Failures]:
    found: dict[str, Case] = {}
    failed: Failures = {}
    for name, make in makers.items():
        try:
            case = make()
            case()
            found[name] = case
        except Exception as error:  # whatever the compiler or the memory meets
            failed[name] = reason(error)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return found, failed
