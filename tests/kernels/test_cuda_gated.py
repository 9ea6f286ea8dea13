"""csrc/cuda/gated.cu, run on the CPU, against the float64 twins."""

import pytest
import torch
from cuda_on_cpu import DTYPES, GatedCotangent, GatedTangent, address
from truth import relative

from latentjac.kernels import reference

TOLERANCE = {torch.float64: 1e-15, torch.float32: 2e-7, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Probes, rows, channels; an odd width, both halves of a projection side by side, more probes than a thread takes.
@pytest.mark.parametrize(("shape", "halves"), [((3, 5, 16), False), ((2, 37, 7), False), ((11, 9, 64), True)], ids=str)
def test_against_the_twin(emulator, memory, shape, halves, dtype):
    generator = torch.Generator().manual_seed(9)
    probes, rows, channels = shape
    wide = reference.statistics_dtype(dtype)

    def pair():
        both = memory.empty(probes, rows, 2 * channels, dtype=dtype)
        if halves:
            return both[..., :channels], both[..., channels:]
        return memory.empty(*shape, dtype=dtype), memory.empty(*shape, dtype=dtype)

    def draw(tensor):
        return tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))

    def sizes(value, gate):
        return value.stride(1), gate.stride(1), probes, rows, channels, DTYPES[dtype]

    a, b = (draw(memory.empty(rows, channels, dtype=wide)) for _ in range(2))
    value, gate = (draw(x) for x in pair())
    out = memory.empty(*shape, dtype=dtype)
    call = GatedTangent(*map(address, (value, gate, a, b, out)), *sizes(value, gate))
    emulator.call_twice(memory, "gated_tangent", [out], call)
    wanted = reference.gated_tangent(value.double(), gate.double(), a.double(), b.double())
    assert relative(out, wanted) < TOLERANCE[dtype]

    u, results = draw(memory.empty(*shape, dtype=dtype)), pair()
    call = GatedCotangent(*map(address, (u, a, b, *results)), *sizes(*results))
    emulator.call_twice(memory, "gated_cotangent", list(results), call)
    for found, expected in zip(results, reference.gated_cotangent(u.double(), a.double(), b.double()), strict=True):
        assert relative(found, expected) < TOLERANCE[dtype]
