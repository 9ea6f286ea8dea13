"""csrc/cuda/gram.cu and combine_rows.cu, run on the CPU, against float64."""

import pytest
import torch
from cuda_on_cpu import DTYPES, CombineRows, Gram, Rows, WeightedRows, address
from truth import relative

# Of the sums, which stay in float64 but where results are rounded.
TOLERANCE = {torch.float64: 1e-15, torch.float32: 1e-7, torch.bfloat16: 2**-8, torch.float16: 2**-11}
# Points, rows of a and of b, length: fragments and tiles that are full, odd, single; several ranges of columns; no
# multiple of four; a narrower than b.
GRAMS = [(1, 16, 16, 256), (2, 33, 17, 1030), (1, 7, 40, 612), (1, 1, 1, 1), (3, 5, 3, 1501), (1, 70, 9, 2048)]
# Points, results, rows, further rows, length.
COMBINATIONS = [(1, 16, 16, 0, 128), (2, 33, 17, 5, 61), (1, 70, 6, 9, 100), (1, 1, 1, 0, 1), (3, 5, 3, 1, 131)]


class Case:
    """Draws arrays into guarded memory; rows are parts of larger ones, as the solver's bases are."""

    def __init__(self, memory, dtype):
        self.memory, self.dtype = memory, dtype
        self.generator = torch.Generator().manual_seed(4)

    def draw(self, *shape, dtype=None):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return self.memory.empty(*shape, dtype=dtype or self.dtype).copy_(values)

    def rows(self, points, count, length, spare):
        """The first rows of each point of a larger array, whose other rows are NaN."""
        whole = self.memory.empty(points, count + spare, length, dtype=self.dtype)
        return whole[:, :count].copy_(torch.randn(points, count, length, generator=self.generator, dtype=torch.float64))


def array(rows):
    return Rows(rows.data_ptr(), rows.stride(0), rows.stride(1))


def gram(emulator, memory, a, b, out):
    sizes = (*a.shape[:2], b.shape[1], a.shape[2])
    workspace = memory.empty(emulator.library.gram_workspace(*sizes) // 8, dtype=torch.float64)
    call = Gram(array(a), array(b), address(out), *sizes, DTYPES[a.dtype])
    emulator.call_twice(memory, "gram", [out], call, address(workspace))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRAMS, ids=str)
def test_gram(emulator, memory, shape, dtype):
    points, a_rows, b_rows, length = shape
    case = Case(memory, dtype)
    a, b = case.rows(points, a_rows, length, 3), case.rows(points, b_rows, length, 0)
    out = memory.empty(points, a_rows, b_rows, dtype=torch.float64)
    gram(emulator, memory, a, b, out)
    assert relative(out, a.double() @ b.double().mT) < 1e-15 * length**0.5


def test_gram_of_rows_with_themselves_is_symmetric(emulator, memory):
    a = Case(memory, torch.float32).rows(1, 40, 1200, 0)
    out = memory.empty(1, 40, 40, dtype=torch.float64)
    gram(emulator, memory, a, a, out)
    assert torch.equal(out, out.mT)


def test_gram_keeps_what_float32_would_lose(emulator, memory):
    """Rows that differ by 1e-6 of their length: a float32 matrix would take them for one."""
    base = torch.randn(1, 1, 900, generator=torch.Generator().manual_seed(1))
    rows = memory.copy(base + 1e-6 * torch.randn(1, 2, 900, generator=torch.Generator().manual_seed(2)))
    out = memory.empty(1, 2, 2, dtype=torch.float64)
    gram(emulator, memory, rows, rows, out)
    smallest, exact = torch.linalg.eigvalsh(out)[0, 0], torch.linalg.svdvals(rows.double())[0, 1].square()
    assert float(smallest) == pytest.approx(float(exact), rel=1e-3)


def test_gram_keeps_a_nan_in_its_row(emulator, memory):
    a, b = (Case(memory, torch.float32).rows(1, 18, 80, 0) for _ in range(2))
    a[0, 3, 79] = torch.nan
    out = memory.empty(1, 18, 18, dtype=torch.float64)
    gram(emulator, memory, a, b, out)
    assert torch.equal(out.isnan()[0].any(1), torch.arange(18) == 3)
    assert out[0, 3].isnan().all()


def weighted(weights, rows):
    if rows is None:
        return WeightedRows()
    return WeightedRows(weights.data_ptr(), *weights.stride(), array(rows), rows.shape[1])


def combine(emulator, memory, out, weights, rows, more=None, others=None):
    call = CombineRows(
        weighted(weights, rows), weighted(more, others), address(out), *out.shape, DTYPES[rows.dtype],
        out.dtype == torch.float64,
    )  # fmt: skip
    emulator.call_twice(memory, "combine_rows", [out], call)


@pytest.mark.parametrize("wide", [False, True], ids=["rounded", "wide"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", COMBINATIONS, ids=str)
def test_combine_rows(emulator, memory, shape, dtype, wide):
    points, results, count, more_count, length = shape
    case = Case(memory, dtype)
    rows, weights = case.rows(points, count, length, 2), case.draw(points, results, count, dtype=torch.float64)
    expected = weights @ rows.double()
    more = others = None
    if more_count:
        others = case.rows(points, more_count, length, 0)
        more = case.draw(points, more_count, results, dtype=torch.float64).mT  # as the solver's coefficients lie
        expected = expected + more @ others.double()
    out = memory.empty(points, results, length, dtype=torch.float64 if wide else dtype)
    combine(emulator, memory, out, weights, rows, more, others)
    assert relative(out, expected) < TOLERANCE[out.dtype] * (1 if out.dtype != torch.float64 else (count + 9) ** 0.5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_combine_rows_keeps_a_bad_number_in_its_column(emulator, memory, value):
    case = Case(memory, torch.float32)
    rows, weights = case.rows(1, 5, 40, 0), case.draw(1, 9, 5, dtype=torch.float64).abs_()
    rows[0, 2, 33] = value
    out = memory.empty(1, 9, 40, dtype=torch.float32)
    combine(emulator, memory, out, weights, rows)
    assert torch.equal(out.isfinite().all(1)[0], torch.arange(40) != 33)
    assert torch.equal(out[0, :, 33], torch.full((9,), value)) or value != value
