"""Runs the CUDA kernels on the CPU: the same .cu sources, compiled by a host compiler against the headers beside this.

Every array a kernel is given lies in guarded memory (see emulator.cpp), results start as NaN, and every call is made
in both of the emulator's orders, which have to give the same bits.
"""

import ctypes
import os
import shutil
import subprocess
from contextlib import contextmanager
from ctypes import c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
ACTIVATIONS = {"identity": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3, "relu": 4}
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-w", "-U_FORTIFY_SOURCE", f"-I{HERE}", f"-I{CSRC}"]


def structure(name, **fields):
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


# The structs of csrc/kernels.h.
NormPrimal = structure("NormPrimal", x=c_void_p, gamma=c_void_p, beta=c_void_p, y=c_void_p, xhat=c_void_p, a=c_void_p,
                       gamma_stride=c_int64, beta_stride=c_int64, samples=c_int64, positions=c_int64,
                       channels=c_int64, groups=c_int64, eps=c_double, dtype=c_int, activation=c_int,
                       rms=c_bool)  # fmt: skip
NormLinear = structure("NormLinear", t=c_void_p, a=c_void_p, xhat=c_void_p, out=c_void_p, probes=c_int64,
                       samples=c_int64, positions=c_int64, channels=c_int64, groups=c_int64, dtype=c_int,
                       rms=c_bool, transpose=c_bool, accumulate=c_bool)  # fmt: skip
_gated = {"value_stride": c_int64, "gate_stride": c_int64, "probes": c_int64, "rows": c_int64, "channels": c_int64,
          "dtype": c_int}  # fmt: skip
GatedTangent = structure("GatedTangent", value=c_void_p, gate=c_void_p, a=c_void_p, b=c_void_p, out=c_void_p, **_gated)
GatedCotangent = structure(
    "GatedCotangent", u=c_void_p, a=c_void_p, b=c_void_p, value=c_void_p, gate=c_void_p, **_gated
)
Strided = structure("Strided", at=c_void_p, probe=c_int64, batch=c_int64, head=c_int64, row=c_int64)
Shape = structure("Shape", batch=c_int64, heads=c_int64, queries=c_int64, keys=c_int64, channels=c_int64,
                  value_channels=c_int64, scale=c_double, dtype=c_int, causal=c_bool, allow_tf32=c_bool)  # fmt: skip
Bias = structure("Bias", at=c_void_p, batch=c_int64, head=c_int64, row=c_int64, column=c_int64)
_common = {"shape": Shape, "q": Strided, "k": Strided, "v": Strided, "bias": Bias, "o": Strided, "lse": c_void_p}
_d = {"dq": Strided, "dk": Strided, "dv": Strided}
AttentionPrimal = structure("AttentionPrimal", **_common)
AttentionTangent = structure("AttentionTangent", **_common, probes=c_int64, **_d, out=Strided, accumulate=c_bool)
AttentionCotangent = structure("AttentionCotangent", **_common, probes=c_int64, u=Strided, **_d)

Rows = structure("Rows", at=c_void_p, point=c_int64, row=c_int64)
Gram = structure("Gram", a=Rows, b=Rows, out=c_void_p, points=c_int64, a_rows=c_int64, b_rows=c_int64, length=c_int64,
                 dtype=c_int)  # fmt: skip
WeightedRows = structure("WeightedRows", weights=c_void_p, point=c_int64, result=c_int64, row=c_int64, rows=Rows,
                         count=c_int64)  # fmt: skip
CombineRows = structure("CombineRows", first=WeightedRows, second=WeightedRows, out=c_void_p, points=c_int64,
                        results=c_int64, length=c_int64, dtype=c_int, wide=c_bool)  # fmt: skip
Jacobi = structure("Jacobi", matrices=c_void_p, left=c_void_p, values=c_void_p, right=c_void_p, off=c_void_p,
                   points=c_int64, rows=c_int64, columns=c_int64)  # fmt: skip


def address(tensor):
    return None if tensor is None else tensor.data_ptr()


def strided(tensor):
    """A [(probe,) batch, head, row, channel] tensor, or none."""
    if tensor is None:
        return Strided()
    assert tensor.stride(-1) == 1 or tensor.shape[-1] == 1
    return Strided(tensor.data_ptr(), *([0] * (5 - tensor.dim())), *tensor.stride()[:-1])


class Memory:
    """Guarded tensors of one test; `check` says which call wrote beside them."""

    def __init__(self, library):
        self.library, self.held = library, []

    def empty(self, *shape, dtype):
        """All NaN."""
        count = max(1, torch.Size(shape).numel())
        size = count * dtype.itemsize
        held = self.library.guarded_new(size)
        self.held.append(held)
        buffer = (ctypes.c_char * size).from_address(self.library.guarded_start(held))
        tensor = torch.frombuffer(buffer, dtype=dtype, count=count)
        return tensor.fill_(float("nan"))[: torch.Size(shape).numel()].view(shape)

    def copy(self, tensor):
        """The same values, contiguous, in guarded memory."""
        return None if tensor is None else self.empty(*tensor.shape, dtype=tensor.dtype).copy_(tensor)

    def check(self, where):
        assert all(self.library.guarded_intact(held) for held in self.held), f"{where} wrote beside an array"

    def free(self):
        for held in self.held:
            self.library.guarded_delete(held)


class Emulator:
    """The compiled library, its calls by name."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.emulator_products.restype = c_int64
        self.library.guarded_new.restype = self.library.guarded_start.restype = c_void_p
        self.library.guarded_new.argtypes = [c_size_t]
        self.library.guarded_start.argtypes = self.library.guarded_delete.argtypes = [c_void_p]
        self.library.guarded_intact.argtypes = [c_void_p]
        for name, sizes in (("norm_act_workspace", 5), ("gram_workspace", 4), ("jacobi_needs", 2),
                            ("jacobi_workspace", 3)):  # fmt: skip
            function = getattr(self.library, name)
            function.restype, function.argtypes = c_int64, [c_int64] * sizes

    def memory(self):
        return Memory(self.library)

    def call(self, name, *arguments, backwards=False):
        """Raises RuntimeError with the kernel's own message."""
        message = ctypes.create_string_buffer(1000)
        self.library.emulator_backwards(backwards)
        function = getattr(self.library, name)
        passed = [ctypes.byref(a) if isinstance(a, ctypes.Structure) else c_void_p(a) for a in arguments]
        if function(*passed, c_char_p(ctypes.addressof(message)), c_size_t(len(message))):
            raise RuntimeError(message.value.decode())

    @contextmanager
    def shared_limit(self, kilobytes):
        """A device whose blocks have less shared memory than sm_80's."""
        self.library.emulator_shared_limit(kilobytes)
        try:
            yield
        finally:
            self.library.emulator_shared_limit(163)

    def products(self):
        """Calls of mma, by all warps together, since this was last asked."""
        return self.library.emulator_products()

    def call_twice(self, memory, name, results, *arguments):
        """In both orders; `results` are the tensors that the call writes."""
        start = [r.clone() for r in results]
        self.call(name, *arguments)
        first = [r.clone() for r in results]
        for result, value in zip(results, start, strict=True):
            result.copy_(value)
        self.call(name, *arguments, backwards=True)
        memory.check(name)
        for one, other in zip(first, results, strict=True):
            bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.dtype.itemsize]
            assert torch.equal(one.contiguous().view(bits), other.contiguous().view(bits)), (
                f"{name} depends on the order of threads"
            )


def compiler():
    """A host compiler; tests that need one fail without it."""
    for name in [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]:
        if shutil.which(name):
            return name
    raise RuntimeError(
        "no C++ compiler to run the CUDA sources on the CPU; LATENTJAC_KERNELS=torch tests the twins alone"
    )


def build(folder, sources):
    """Compiles `sources` (.cu or .cpp) with the emulator into one library."""
    objects = []
    for source in [HERE / "emulator.cpp", *sources]:
        objects.append(str(folder / f"{source.name}.o"))
        # The emulator is short and does the arithmetic: it is worth more of the compiler's time than the kernels.
        speed = ["-O3"] if source.name == "emulator.cpp" else []
        subprocess.run([compiler(), *FLAGS, *speed, "-x", "c++", "-c", str(source), "-o", objects[-1]], check=True)
    library = folder / "kernels.so"
    subprocess.run([compiler(), "-shared", "-o", str(library), *objects], check=True)
    return Emulator(library)
