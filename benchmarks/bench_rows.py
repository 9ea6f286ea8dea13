"""The solver's own kernels against torch: Gram matrices, combinations of rows, and small dense problems.

The floor of the first two is one read of the rows in float32 (and one write of the results), what a copy moves, or
their multiply-adds in float64 at the rate of the tensor cores. `torch` is the same with a float64 copy of the rows and
a product, as the reference implementation has it; for the small problems its own drivers. Without a GPU these
meet themselves.

    python benchmarks/bench_rows.py [--threads 1] [--device cpu|cuda] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from kernel_benchmark import begin, command_line
from record import alternate, table, write

from latentjac import kernels
from latentjac.kernels import reference

# name, rows of a, rows of b (0: a with itself), length
GRAMS = [
    ("new rows, sd1.5", 16, 0, 81_920),
    ("core column, sd1.5", 166, 16, 81_920),
    ("residual rows, sd1.5", 66, 0, 16_384),
    ("new rows, ddpm-256", 16, 0, 196_608),
    ("core column, ddpm-256", 166, 16, 196_608),
    ("residual rows, ddpm-256", 66, 0, 196_608),
]
# name, results, rows, further rows, length
COMBINATIONS = [
    ("rotation, sd1.5", 16, 16, 0, 81_920),
    ("residual rows, ddpm-256", 66, 166, 166, 196_608),
    ("restart, ddpm-256", 66, 166, 0, 196_608),
    ("restart, sd1.5", 66, 166, 0, 81_920),
]
SIZES = (8, 16, 32, 66, 100, 128, 166)


def gram_row(name: str, p: int, q: int, n: int, rounds: int, device: str) -> dict[str, Any]:
    a = torch.randn(1, p, n, device=device)
    b = torch.randn(1, q, n, device=device) if q else None
    source = torch.randn((p + q) * n // 2 + 1, device=device)
    target = torch.empty_like(source)
    seconds = alternate(
        {
            "copy": lambda: target.copy_(source),
            "gram": lambda: kernels.gram(a, b),
            "torch": lambda: reference.gram(a, b),
        },
        rounds, 10.0, device,
    )  # fmt: skip
    return ratios(f"gram: {name}", f"{p},{q},{n}", seconds, "gram", 2 * p * (q or p) * n)


def combination_row(name: str, r: int, p: int, q: int, n: int, rounds: int, device: str) -> dict[str, Any]:
    a, b = torch.randn(1, p, n, device=device), torch.randn(1, q, n, device=device)
    w, m = (torch.randn(1, r, count, device=device, dtype=torch.float64) for count in (p, q))
    more = (m, b) if q else (None, None)
    source = torch.randn((p + q + r) * n // 2 + 1, device=device)
    target = torch.empty_like(source)
    seconds = alternate(
        {
            "copy": lambda: target.copy_(source),
            "combine": lambda: kernels.combine_rows(w, a, *more),
            "torch": lambda: reference.combine_rows(w, a, *more, False),
        },
        rounds, 10.0, device,
    )  # fmt: skip
    return ratios(f"combine: {name}", f"{r},{p},{q},{n}", seconds, "combine", 2 * r * (p + q) * n)


def ratios(name: str, sizes: str, seconds: dict[str, float], case: str, flops: int) -> dict[str, Any]:
    """Below 1 against torch is a win, 1 of a copy the floor of memory."""
    return {
        "case": name,
        "sizes": sizes,
        "us": seconds[case] * 1e6,
        "of copy": seconds[case] / seconds["copy"],
        "of torch": seconds[case] / seconds["torch"],
        "float64 TFLOP/s": flops / seconds[case] / 1e12,
    }


def small_row(size: int, rounds: int, device: str) -> dict[str, Any]:
    matrix = torch.randn(1, size, size, device=device, dtype=torch.float64)
    square = matrix @ matrix.mT
    cases: dict[str, Callable[[], object]] = {
        "svd, torch": lambda: torch.linalg.svd(matrix),
        "eigh, torch": lambda: torch.linalg.eigh(square),
        "svd, LAPACK and back": lambda: [t.to(device) for t in torch.linalg.svd(matrix.cpu())],
    }
    if kernels.jacobi_fits(matrix) or device == "cpu":
        cases |= {"svd": lambda: kernels.jacobi_svd(matrix), "eigh": lambda: kernels.jacobi_eigh(square)}
    seconds = alternate(cases, rounds, 5.0, device)
    return {"size": size, **{f"{name} us": seconds[name] * 1e6 for name in sorted(seconds)}}


def main() -> None:
    options = begin(command_line(__doc__, quick="one case each"), references=True)
    device, rounds = options.device, 3 if options.quick else 41
    rows = [gram_row(*sizes, rounds, device) for sizes in (GRAMS[:1] if options.quick else GRAMS)]
    rows += [combination_row(*sizes, rounds, device) for sizes in (COMBINATIONS[:1] if options.quick else COMBINATIONS)]
    small = [small_row(size, rounds, device) for size in (SIZES[:2] if options.quick else SIZES)]
    print(table(rows))
    print(table(small))
    if not options.quick:
        print(write(f"rows_{device}", rows, device, small=small))


if __name__ == "__main__":
    main()
