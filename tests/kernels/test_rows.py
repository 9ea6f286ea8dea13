"""Gram matrices and combinations of long rows against float64; on the CPU the reference, on CUDA the kernels."""

import pytest
import torch
from pairwise import pairwise
from truth import relative

from latentjac.kernels import combine_rows, gram

# Points, rows, further rows, length, results: fragments and tiles that are full, odd, single; several ranges of
# columns; no multiple of four; either side narrower.
SHAPES = [
    (1, 16, 16, 256, 16),
    (2, 33, 17, 1030, 33),
    (1, 7, 40, 612, 70),
    (1, 1, 1, 1, 1),
    (3, 5, 3, 1501, 5),
    (1, 70, 9, 2048, 9),
]
LONG = (1, 166, 16, 70000, 9)
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def rows_of(draw, points, count, length, dtype):
    """Part of a larger array, as the solver's bases are."""
    return draw(points, count + 2, length, dtype=dtype)[:, :count]


def check_both(draw, shape, dtype, wide, further):
    points, p, q, length, results = shape
    a, b = rows_of(draw, points, p, length, dtype), rows_of(draw, points, q, length, dtype)
    assert relative(gram(a, b), a.double() @ b.double().mT) < 1e-15 * max(length, 16) ** 0.5
    assert relative(gram(b), b.double() @ b.double().mT) < 1e-15 * max(length, 16) ** 0.5
    assert gram(a, b).dtype == torch.float64
    weights, more = draw(points, results, p), draw(points, q, results).mT
    expected, given = weights @ a.double(), (weights, a)
    if further:
        expected, given = expected + more @ b.double(), (weights, a, more, b)
    found = combine_rows(*given, wide=wide)
    assert found.dtype == (torch.float64 if wide else dtype)
    assert relative(found, expected) < TOLERANCE[found.dtype]


@pytest.mark.parametrize(
    ("shape", "dtype", "wide", "further"), pairwise(SHAPES, list(TOLERANCE), [False, True], [False, True]), ids=str
)
def test_against_float64(draw, shape, dtype, wide, further):
    check_both(draw, shape, dtype, wide, further)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_long_rows_against_float64(draw, dtype):
    check_both(draw, LONG, dtype, wide=False, further=True)


def test_gram_of_rows_with_themselves_is_symmetric(emulated):
    found = gram(torch.randn(1, 40, 1200, generator=torch.Generator().manual_seed(4)))
    assert torch.equal(found, found.mT)


def test_gram_keeps_what_float32_would_lose(draw):
    """Rows that differ by 1e-6 of their length: a float32 matrix would take them for one."""
    rows = (draw(1, 1, 900).float() + 1e-6 * draw(1, 2, 900).float()).contiguous()
    smallest, exact = torch.linalg.eigvalsh(gram(rows))[0, 0], torch.linalg.svdvals(rows.double())[0, 1].square()
    assert float(smallest) == pytest.approx(float(exact), rel=1e-3)


def test_gram_keeps_a_nan_in_its_row(draw):
    a, b = draw(1, 18, 80, dtype=torch.float32), draw(1, 18, 80, dtype=torch.float32)
    a[0, 3, 79] = torch.nan
    found = gram(a, b)[0]
    assert torch.equal(found.isnan().any(1).cpu(), torch.arange(18) == 3)
    assert found[3].isnan().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_combine_rows_keeps_a_bad_number_in_its_column(draw, value):
    rows, weights = draw(1, 5, 40, dtype=torch.float32), draw(1, 9, 5).abs()
    rows[0, 2, 33] = value
    found = combine_rows(weights, rows)[0]
    assert torch.equal(found.isfinite().all(0).cpu(), torch.arange(40) != 33)
    assert found[:, 33].isnan().all() if value != value else (found[:, 33] == value).all()


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_on_cuda_the_same_bits_every_time_and_no_copy_of_the_rows(draw):
    a, weights = draw(1, 60, 200_000, dtype=torch.float32), draw(1, 8, 60)
    first, rotated = gram(a), combine_rows(weights, a)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        assert torch.equal(gram(a), first)
        assert torch.equal(combine_rows(weights, a), rotated)
    # Ranges of the Gram matrix and the results; a float64 copy alone would take 96 MB.
    assert torch.cuda.max_memory_allocated() - before < 48e6


def test_non_contiguous_rows(draw):
    a, weights = draw(2, 40, 6).mT, draw(2, 6, 3).mT
    torch.testing.assert_close(gram(a), a @ a.mT)
    torch.testing.assert_close(combine_rows(weights, a), weights @ a)
    same = draw(1, 1, 40).expand(2, 6, 40)
    torch.testing.assert_close(gram(same, a), same @ a.mT)
    torch.testing.assert_close(gram(a[:, :, :1]), a[:, :, :1] @ a[:, :, :1].mT)


@pytest.mark.parametrize("device", ["cpu"], indirect=True)
def test_long_rows_in_pieces(draw, monkeypatch):
    """The reference converts part of the rows at a time."""
    from latentjac.kernels import reference

    a, weights = draw(1, 6, 1000, dtype=torch.float32), draw(1, 3, 6)
    whole = combine_rows(weights, a, weights, a)
    monkeypatch.setattr(reference, "_CHUNK_BYTES", 8 * 9 * 64)
    torch.testing.assert_close(combine_rows(weights, a, weights, a), whole)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty(device, shape):
    a = torch.empty(shape, device=device)
    assert not gram(a).any()
    assert gram(a).shape == (shape[0], shape[1], shape[1])
    found = combine_rows(torch.ones(shape[0], 2, shape[1], device=device, dtype=torch.float64), a)
    assert found.shape == (shape[0], 2, shape[2])
    assert not found.any()


A, W = torch.zeros(2, 3, 4), torch.zeros(2, 5, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gram(A[0]), ValueError, r"gram: a must have shape \[B, p, n\], got \[3, 4\]"),
        (lambda: gram(A.int()), TypeError, "a must be float32.*got torch.int32"),
        (lambda: gram(A, A[0]), ValueError, r"b must have shape \[B, q, n\], got \[3, 4\]"),
        (lambda: gram(A, A[:, :, :2]), ValueError, r"b must have shape \[2, 3, 4\], got \[2, 3, 2\]"),
        (lambda: gram(A, A.double()), TypeError, "b must be torch.float32, got torch.float64"),
        (lambda: gram("a"), TypeError, "a must be a tensor, got str"),
        (lambda: gram(A.clone().requires_grad_()), RuntimeError, "a must be a plain tensor"),
        (lambda: combine_rows(W, A[0]), ValueError, r"rows must have shape \[B, p, n\]"),
        (lambda: combine_rows(W[:, :, :2], A), ValueError, r"weights must have shape \[2, 5, 3\], got \[2, 5, 2\]"),
        (lambda: combine_rows(W[0], A), ValueError, r"weights must have shape \[B, r, p\], got \[5, 3\]"),
        (lambda: combine_rows(W.float(), A), TypeError, "weights must be torch.float64, got torch.float32"),
        (lambda: combine_rows(W, A, W), ValueError, "more and others must come together, got one of them"),
        (lambda: combine_rows(W, A, W[:, :4], A), ValueError, r"more must have shape \[2, 5, 3\], got \[2, 4, 3\]"),
        (lambda: combine_rows(W, A, W, A[:1]), ValueError, r"others must have shape \[2, 3, 4\]"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
